//! Compiles the protocol with `protox`: no protoc has to be installed.

use std::path::PathBuf;

const FILES: [&str; 6] = [
    "sr3/v1/order.proto",
    "sr3/v1/job.proto",
    "sr3/v1/session.proto",
    "sr3/v1/peer.proto",
    "sr3/v1/access.proto",
    "sr3/ledger/v1/ledger.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let set = protox::compile(FILES, ["."])?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("sr3.bin");
    std::fs::write(&descriptors, prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(set)?;
    Ok(())
}
