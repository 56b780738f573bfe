//! Addresses of coordinators, as people write them.

use std::{fmt, time::Duration};

use tonic::transport::{Endpoint, Uri};

use super::{FRAME_BYTES, KEEP_ALIVE_EVERY, KEEP_ALIVE_TIMEOUT, WINDOW_BYTES};
use crate::words::without_secrets;

/// A checked address. Nothing is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    uri: Uri,
}

/// A text that is no address.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no address of a coordinator: {reason}")]
pub struct AddressError {
    /// As it was written.
    pub text: String,
    /// What is wrong, or right.
    pub reason: &'static str,
}

impl Address {
    /// Reads `https://host:port`, `http://host:port`, or `host:port`, which is http.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(written: &str) -> Result<Self, AddressError> {
        let wrong = |reason| AddressError { text: without_secrets(written), reason };
        let trimmed = written.trim().trim_end_matches('/');
        let text = match trimmed.split_once("://") {
            Some(("http" | "https", _)) => trimmed.to_string(),
            Some(_) => return Err(wrong("it has to begin with https:// or http://")),
            None => format!("http://{trimmed}"),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("write http://host:port"))?;
        if uri.host().is_none_or(str::is_empty) || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("write http://host:port"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it has a user in it: pass a token with --token-file"));
        }
        if uri.port_u16().is_none() && !trimmed.contains("://") {
            return Err(wrong("the port is missing: write host:port"));
        }
        Ok(Self { text, uri })
    }

    /// As it is shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The name or number of its machine.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is this machine, as written.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// How it is dialled, with so much patience for a connection. Whoever connects it puts TLS in: tonic's own would not read
    /// certificates again, and wants a scheme that says so.
    pub fn endpoint(&self, patience: Duration) -> Endpoint {
        let mut parts = self.uri.clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        let dialled = Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone());
        Endpoint::from(dialled)
            .origin(self.uri.clone())
            .connect_timeout(patience)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
            ("https://sr3.example:7070", "https://sr3.example:7070"),
        ] {
            assert_eq!(Address::parse(written).unwrap().text(), text);
        }
        for written in
            ["", "host", "https://u:p@host:1", "http://", "http://host:1/jobs", "s3://bucket", "a b:1"]
        {
            assert!(Address::parse(written).is_err(), "{written}");
        }
    }
}
