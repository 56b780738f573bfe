//! Opening a cloud: which settings count, and where credentials come from.
//!
//! Settings come from the environment, as the clouds' own tools read it, and from nowhere else: a job spec names
//! places, never keys or servers.
//!
//! - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; else web identity and container
//!   credentials; else the profile `AWS_PROFILE` (or `default`) in `AWS_SHARED_CREDENTIALS_FILE` (or
//!   `~/.aws/credentials`); else the machine's role. `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's region in
//!   `AWS_CONFIG_FILE` (or `~/.aws/config`), else `us-east-1`. `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or
//!   `AWS_ENDPOINT` name another server.
//! - GCS: `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, else the machine's account. `GOOGLE_BASE_URL`
//!   names another server.
//! - Azure: `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN`, or
//!   `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET` and `AZURE_TENANT_ID`. `AZURE_STORAGE_ENDPOINT` names another server.
//!
//! A connection is encrypted unless the endpoint that was named says `http://`. A profile is read once, when the
//! store is opened.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use object_store::{
    ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    memory::InMemory,
};

use super::{Location, Scheme, StoreError, retry};

/// Names and values, as in an environment. Never shown: some are secrets.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Those of this process. What is not UTF-8 is left out.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self(pairs.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// These, and nothing of the environment.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Those that begin with `start`, by lower-case name, as `object_store` parses them.
    fn starting_with<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        let mine = self.0.iter().filter(move |(name, value)| name.starts_with(start) && !value.is_empty());
        mine.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({} values)", self.0.len())
    }
}

/// The whole bucket that a location lies in, as the `object_store` crate sees it: for those who keep more there than
/// objects by key. What lies at the location begins with [`Location::prefix`].
///
/// # Errors
/// [`StoreError::Settings`], also for a folder.
pub fn open_bucket(location: &Location, settings: &Settings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let connector = Connector { location: location.clone(), settings: Arc::new(settings.clone()) };
    connector.connect(Patience::Usual)
}

/// How long the client of a store waits and how often it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// For most requests.
    Usual,
    /// For single uploads of large objects.
    Large,
    /// For a first look.
    Short,
}

impl Patience {
    fn retries(self) -> RetryConfig {
        match self {
            Self::Usual | Self::Large => retry::requests(),
            Self::Short => retry::first_look(),
        }
    }

    fn timeout(self) -> String {
        let time = if self == Self::Large { retry::LARGE_REQUEST_TIME } else { retry::REQUEST_TIME };
        format!("{} seconds", time.as_secs())
    }
}

/// What it takes to open a bucket, kept to open it with another patience.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) location: Location,
    pub(super) settings: Arc<Settings>,
}

impl Connector {
    pub(super) fn connect(&self, patience: Patience) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let bucket = self.location.bucket().unwrap_or_default();
        match self.location.scheme() {
            Some(Scheme::S3) => self.s3(bucket, patience),
            Some(Scheme::Gs) => self.gs(bucket, patience),
            Some(Scheme::Az) => self.az(bucket, patience),
            Some(Scheme::Memory) => Ok(memory(bucket)),
            None => Err(self.wrong("it is a folder")),
        }
    }

    /// The server, to name in errors.
    pub(super) fn endpoint(&self) -> String {
        let set = |names: &[&str]| names.iter().find_map(|name| self.settings.get(name)).map(String::from);
        let (named, usual) = match self.location.scheme() {
            Some(Scheme::S3) => {
                (set(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]), "Amazon S3")
            }
            Some(Scheme::Gs) => (set(&["GOOGLE_BASE_URL"]), "Google Cloud Storage"),
            Some(Scheme::Az) => (set(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]), "Azure Blob Storage"),
            Some(Scheme::Memory) | None => (None, "this process"),
        };
        named.unwrap_or_else(|| usual.to_string())
    }

    /// Where credentials are looked for, to name in errors.
    pub(super) fn variables(&self) -> &'static str {
        match self.location.scheme() {
            Some(Scheme::S3) => {
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE and ~/.aws/credentials"
            }
            Some(Scheme::Gs) => "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
            Some(Scheme::Az) => {
                "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_CLIENT_ID, \
                 AZURE_CLIENT_SECRET and AZURE_TENANT_ID"
            }
            Some(Scheme::Memory) | None => "nothing",
        }
    }

    fn wrong(&self, reason: impl fmt::Display) -> StoreError {
        StoreError::Settings { path: self.location.to_string(), reason: reason.to_string() }
    }

    fn built<T: ObjectStore>(
        &self,
        built: object_store::Result<T>,
    ) -> Result<Arc<dyn ObjectStore>, StoreError> {
        match built {
            Ok(store) => Ok(Arc::new(store)),
            Err(object_store::Error::Generic { source, .. }) => {
                Err(self.wrong(format!("{source}; check {}", self.variables())))
            }
            Err(other) => Err(self.wrong(other)),
        }
    }

    fn s3(&self, bucket: &str, patience: Patience) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in self.settings.starting_with("AWS_") {
            if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let profile = self.profile()?;
        let has = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
        if let Some(region) = &profile.region
            && !has(&builder, AmazonS3ConfigKey::Region)
        {
            builder = builder.with_region(region);
        }
        let others = [
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SecretAccessKey,
            AmazonS3ConfigKey::WebIdentityTokenFile,
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ];
        if let Some((id, secret, token)) = profile.keys
            && !others.into_iter().any(|key| has(&builder, key))
        {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            builder = token.map_or(builder.clone(), |token| builder.with_token(token));
        }
        let plain = self.endpoint().starts_with("http://");
        let builder = builder
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(patience.retries())
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), patience.timeout())
            .with_allow_http(plain);
        self.built(builder.build())
    }

    fn gs(&self, bucket: &str, patience: Patience) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (name, value) in self.settings.starting_with("GOOGLE_") {
            if let Ok(key) = name.parse::<GoogleConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let plain = self.endpoint().starts_with("http://").to_string();
        let builder = builder
            .with_bucket_name(bucket)
            .with_retry(patience.retries())
            .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), patience.timeout())
            .with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), plain);
        self.built(builder.build())
    }

    fn az(&self, container: &str, patience: Patience) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut builder = MicrosoftAzureBuilder::new();
        for (name, value) in self.settings.starting_with("AZURE_") {
            if let Ok(key) = name.parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let plain = self.endpoint().starts_with("http://");
        let builder = builder
            .with_container_name(container)
            .with_retry(patience.retries())
            .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), patience.timeout())
            .with_allow_http(plain);
        self.built(builder.build())
    }

    fn profile(&self) -> Result<Profile, StoreError> {
        let asked = self.settings.get("AWS_PROFILE");
        let name = asked.unwrap_or("default");
        let read = |variable: &str, usual: &str| {
            let path = self.settings.get(variable).map(PathBuf::from);
            let path = path.or_else(|| Some(self.settings.home()?.join(".aws").join(usual)))?;
            fs::read_to_string(path).ok()
        };
        let mut profile = Profile::default();
        let mut found = false;
        if let Some(text) = read("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
            found |= profile.read(&text, name);
        }
        if let Some(text) = read("AWS_CONFIG_FILE", "config") {
            let section = if name == "default" { name.to_string() } else { format!("profile {name}") };
            found |= profile.read(&text, &section);
        }
        if asked.is_some() && !found {
            return Err(self.wrong(format!(
                "AWS_PROFILE is `{name}`, and neither ~/.aws/credentials nor ~/.aws/config has that profile"
            )));
        }
        Ok(profile)
    }
}

/// What a profile of the AWS tools says.
#[derive(Default)]
struct Profile {
    keys: Option<(String, String, Option<String>)>,
    region: Option<String>,
}

impl Profile {
    /// Adds what section `name` of an INI file says and is not known yet; false if there is no such section.
    fn read(&mut self, text: &str, name: &str) -> bool {
        let (mut inside, mut found) = (false, false);
        let mut values = HashMap::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                inside = section.0.split_whitespace().collect::<Vec<_>>().join(" ") == name;
                found |= inside;
            } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
                values.insert(key.trim().to_ascii_lowercase(), value.trim().to_string());
            }
        }
        let mut take = |key: &str| values.remove(key).filter(|value| !value.is_empty());
        if self.keys.is_none()
            && let (Some(id), Some(secret)) = (take("aws_access_key_id"), take("aws_secret_access_key"))
        {
            self.keys = Some((id, secret, take("aws_session_token")));
        }
        self.region = self.region.take().or_else(|| take("region"));
        found
    }
}

/// The store of this process by that name.
fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<InMemory>>>> = OnceLock::new();
    let mut stores = STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let store = stores.entry(name.to_string()).or_insert_with(|| Arc::new(InMemory::new()));
    Arc::<InMemory>::clone(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[ other ]\n\
        aws_access_key_id=O\nAWS_SECRET_ACCESS_KEY = s\naws_session_token = t\n[half]\naws_access_key_id=H\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let read = |name: &str| {
            let mut profile = Profile::default();
            let found = profile.read(CREDENTIALS, name);
            (found, profile.keys)
        };
        assert_eq!(read("default"), (true, Some(("A".into(), "b=c".into(), None))));
        assert_eq!(read("other"), (true, Some(("O".into(), "s".into(), Some("t".into())))));
        assert_eq!(read("half"), (true, None));
        assert_eq!(read("none"), (false, None));
        let mut profile = Profile::default();
        assert!(profile.read("[profile other]\nregion = eu-west-1\n", "profile other"));
        assert_eq!(profile.region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn a_profile_that_was_asked_for_must_exist() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir(dir.path().join(".aws")).unwrap();
        fs::write(dir.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        let open = |pairs: &[(&str, &str)]| {
            let home = ("HOME", dir.path().to_str().unwrap());
            let settings = Settings::from_pairs(pairs.iter().copied().chain([home]));
            Connector { location: "s3://b/x".parse().unwrap(), settings: Arc::new(settings) }
                .connect(Patience::Usual)
        };
        assert!(open(&[]).is_ok());
        assert!(open(&[("AWS_PROFILE", "other")]).is_ok());
        assert!(matches!(open(&[("AWS_PROFILE", "none")]), Err(StoreError::Settings { .. })));
        let half = open(&[("AWS_ACCESS_KEY_ID", "A")]);
        assert!(matches!(half, Err(StoreError::Settings { .. })), "half a key is no key");
    }

    #[test]
    fn settings_are_not_shown() {
        let settings = Settings::from_pairs([("AWS_SECRET_ACCESS_KEY", "hush")]);
        assert!(!format!("{settings:?}").contains("hush"));
        let connector = Connector { location: "s3://b".parse().unwrap(), settings: Arc::new(settings) };
        assert!(!format!("{connector:?}").contains("hush"));
    }

    #[test]
    fn memory_stores_of_one_name_are_one() {
        assert!(Arc::ptr_eq(&memory("same"), &memory("same")));
        assert!(!Arc::ptr_eq(&memory("same"), &memory("other")));
    }
}
