//! A coordinator that may be asked.

use std::{sync::OnceLock, time::Duration};

use sr3_proto::{
    net::{ANSWER_BYTES_MAX, Address, Dialer, Line},
    wire::v1::{access_service_client::AccessServiceClient, job_service_client::JobServiceClient},
};
use tonic::transport::Channel;

/// Another one may answer sooner.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// One coordinator. Nothing is connected before it is asked.
#[derive(Debug)]
pub(super) struct Target {
    address: Address,
    dialer: Dialer,
    channel: OnceLock<Channel>,
}

impl Target {
    pub(super) fn new(address: Address, dialer: Dialer) -> Self {
        Self { address, dialer, channel: OnceLock::new() }
    }

    /// As it is shown.
    pub(super) fn text(&self) -> &str {
        self.address.text()
    }

    /// The service there; connects when it is asked. Only within a runtime.
    pub(super) fn service(&self) -> JobServiceClient<Line> {
        JobServiceClient::new(self.line()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The service of tokens there.
    pub(super) fn access(&self) -> AccessServiceClient<Line> {
        AccessServiceClient::new(self.line()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn line(&self) -> Line {
        let channel = self.channel.get_or_init(|| self.dialer.connect_lazy(&self.address, CONNECT_PATIENCE));
        self.dialer.line(channel.clone(), &self.address)
    }
}
