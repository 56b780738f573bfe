//! A coordinator that may be asked.

use std::{sync::OnceLock, time::Duration};

use sr3_proto::{
    net::{ANSWER_BYTES_MAX, Address},
    wire::v1::job_service_client::JobServiceClient,
};
use tonic::transport::Channel;

/// Another one may answer sooner.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// One coordinator. Nothing is connected before it is asked.
#[derive(Debug)]
pub(super) struct Target {
    address: Address,
    channel: OnceLock<Channel>,
}

impl Target {
    pub(super) fn new(address: Address) -> Self {
        Self { address, channel: OnceLock::new() }
    }

    /// As it is shown.
    pub(super) fn text(&self) -> &str {
        self.address.text()
    }

    /// The service there; connects when it is asked. Only within a runtime.
    pub(super) fn service(&self) -> JobServiceClient<Channel> {
        let channel = self.channel.get_or_init(|| self.address.endpoint(CONNECT_PATIENCE).connect_lazy());
        JobServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}
