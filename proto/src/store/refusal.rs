//! What a server's answer means.
//!
//! `object_store` wraps most answers in errors of a type that it does not export, so they are read from their text:
//! the status from `status code: 404`, the reason from the `<Code>` of the body. Seen with SeaweedFS 4.48: a listing
//! of a bucket that is not there is a Generic error with 404 NoSuchBucket; wrong keys are 403 InvalidAccessKeyId and
//! SignatureDoesNotMatch on GET, PUT and DELETE, and 403 without a body on HEAD; a HEAD in a bucket that is not there
//! cannot be told from one of a key that is not there.

use std::error::Error as _;

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};

use super::{StoreError, connect::Connector};

/// What was asked when the error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something about one key.
    Key,
    /// A listing: not found means that there is no bucket.
    Listing,
}

const CREDENTIALS: [&str; 11] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidSecurity",
    "RequestTimeTooSkewed",
    "AuthenticationFailed",
    "NoAuthenticationInformation",
    "InvalidAuthenticationInfo",
    "MissingSecurityHeader",
];

/// Parts of the addresses of those who hand out credentials.
const CREDENTIAL_SERVERS: [&str; 6] =
    ["169.254.", "latest/api/token", "metadata.google", "oauth2", "login.microsoftonline", "sts."];

/// The error to return for what `object_store` said about `path`.
pub(super) fn of(connector: Option<&Connector>, path: String, asked: Asked, error: Error) -> StoreError {
    let text = error.to_string();
    let answer = Answer::read(&text);
    let code = answer.code.as_str();
    if let Some(connector) = connector {
        if let Some(known) = about_the_store(connector, &path, asked, &answer, &text) {
            return known;
        }
        if let Some(http) = transport(&error) {
            let reason = deepest(http).into();
            match http.kind() {
                HttpErrorKind::Connect => {
                    return StoreError::Unreachable { path, endpoint: connector.endpoint(), source: reason };
                }
                HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted
                | HttpErrorKind::Request
                | HttpErrorKind::Decode => return StoreError::Transient { path, source: reason },
                _ => {}
            }
        }
    }
    match error {
        Error::NotFound { .. } => StoreError::NotFound { path },
        // Two conditional writes met and neither was done.
        Error::AlreadyExists { .. } if matches!(code, "ConditionalRequestConflict" | "OperationAborted") => {
            StoreError::Transient { path, source: answer.to_string().into() }
        }
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::AlreadyExists { path },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StoreError::Denied { path, source: std::io::Error::other(answer.to_string()) }
        }
        Error::InvalidPath { source } => {
            let reason = format!("the name of an object cannot be used ({source}): rename or remove it");
            StoreError::Failed { path, source: reason.into() }
        }
        other if answer.status == 0 => StoreError::Failed { path, source: other.into() },
        _ if answer.passes() => StoreError::Transient { path, source: answer.to_string().into() },
        _ => StoreError::Failed { path, source: answer.to_string().into() },
    }
}

fn about_the_store(
    connector: &Connector,
    path: &str,
    asked: Asked,
    answer: &Answer,
    text: &str,
) -> Option<StoreError> {
    let path = path.to_string();
    let credentials = |what: String| {
        Some(StoreError::Credentials { path: path.clone(), what, variables: connector.variables() })
    };
    let code = answer.code.as_str();
    let no_bucket = matches!(code, "NoSuchBucket" | "ContainerNotFound");
    if no_bucket || (asked == Asked::Listing && answer.status == 404) {
        let bucket = connector.location.bucket().unwrap_or_default().to_string();
        return Some(StoreError::NoBucket { path, bucket });
    }
    // Only the part before the body: a body may hold anything.
    let asked_whom = text.split("status code").next().unwrap_or_default();
    if CREDENTIAL_SERVERS.iter().any(|part| asked_whom.contains(part)) {
        return credentials("no credentials were found".into());
    }
    if CREDENTIALS.contains(&code) {
        return credentials(format!("{} does not take the credentials ({answer})", connector.endpoint()));
    }
    if answer.status == 401 {
        return credentials(format!("{} wants credentials ({answer})", connector.endpoint()));
    }
    if text.contains("redirect without LOCATION")
        || matches!(code, "PermanentRedirect" | "AuthorizationHeaderMalformed")
    {
        let reason = "the bucket lies in another region: set AWS_REGION".to_string();
        return Some(StoreError::Settings { path, reason });
    }
    None
}

/// The last answer of a server, as `object_store` quotes it; status 0 if there was none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    status: u16,
    code: String,
    message: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
        let element = |name: &str| {
            let rest = after(&format!("<{name}>"))?;
            let inside: String =
                rest.split('<').next()?.chars().filter(|c| !c.is_control()).take(200).collect();
            Some(inside)
        };
        let status = after("status code: ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        Self {
            status,
            code: element("Code").unwrap_or_default(),
            message: element("Message").unwrap_or_default(),
        }
    }

    /// Whether the same request may be answered otherwise later.
    fn passes(&self) -> bool {
        self.status >= 500 || matches!(self.status, 408 | 429)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ", {}", self.message.trim_end_matches('.')) }
    }
}

fn transport(error: &Error) -> Option<&HttpError> {
    let mut current = error.source()?;
    loop {
        if let Some(http) = current.downcast_ref() {
            return Some(http);
        }
        current = current.source()?;
    }
}

/// What the innermost error says; the outer ones repeat the address.
fn deepest(error: &HttpError) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(inner) = current.source() {
        current = inner;
    }
    current.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_from_the_text_around_it() {
        let text = "Generic S3 error: Error performing list request: Error performing GET http://127.0.0.1:1/b?list-type=2 \
            in 3ms - Server returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?>\n<Error>\
            <Code>NoSuchBucket</Code><Message>The specified bucket\u{1b} does not exist.</Message></Error>";
        let answer = Answer::read(text);
        assert_eq!(answer.to_string(), "status 404 NoSuchBucket, The specified bucket does not exist");
        assert!(!answer.passes());
        assert_eq!(Answer::read("something else"), Answer::default());
        assert!(Answer::read("Server returned non-2xx status code: 503 Service Unavailable: ").passes());
        assert!(!Answer::read("status code: é").passes());
    }
}
