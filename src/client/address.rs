//! Addresses of coordinators, as people write them, and the connections to them.

use std::{sync::OnceLock, time::Duration};

use sr3_proto::wire::{FRAME_BYTES, WINDOW_BYTES, v1::job_service_client::JobServiceClient};
use tonic::transport::{Channel, Endpoint, Uri};

use super::remote::ClientError;

/// A page of jobs whose specs are all as long as a spec may be.
const ANSWER_BYTES_MAX: usize = 128 << 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Asked even while idle: otherwise a channel does not come back after a partition.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE_PATIENCE: Duration = Duration::from_secs(3);

/// One coordinator's address. Nothing is connected before it is asked.
#[derive(Debug)]
pub(super) struct Address {
    text: String,
    endpoint: Endpoint,
    channel: OnceLock<Channel>,
}

impl Address {
    /// Reads `http://host:port`, or `host:port`.
    pub(super) fn parse(written: &str) -> Result<Self, ClientError> {
        let wrong = |reason: &str| ClientError::Address { text: written.into(), reason: reason.into() };
        let trimmed = written.trim().trim_end_matches('/');
        let text = match trimmed.split_once("://") {
            Some(("http", _)) => trimmed.to_string(),
            Some(_) => return Err(wrong("it has to begin with http://")),
            None => format!("http://{trimmed}"),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("write http://host:port"))?;
        if uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("write http://host:port"));
        }
        if uri.port_u16().is_none() && !trimmed.contains("://") {
            return Err(wrong("the port is missing: write host:port"));
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_PATIENCE)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_PATIENCE)
            .keep_alive_while_idle(true);
        Ok(Self { text, endpoint, channel: OnceLock::new() })
    }

    /// As it is shown.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The service there; connects when it is asked. Only within a runtime.
    pub(super) fn service(&self) -> JobServiceClient<Channel> {
        let channel = self.channel.get_or_init(|| self.endpoint.connect_lazy());
        JobServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_may_be_left_out_and_a_port_only_with_one() {
        for (written, text) in [
            ("10.0.0.1:7070", "http://10.0.0.1:7070"),
            (" http://sr3.example/ ", "http://sr3.example"),
            ("[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(Address::parse(written).unwrap().text(), text);
        }
        for written in ["", "host", "https://host:1", "http://", "http://host:1/jobs", "s3://bucket", "a b:1"]
        {
            assert!(Address::parse(written).is_err(), "{written}");
        }
    }
}
