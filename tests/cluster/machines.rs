//! A cluster on machines of its own, as docs/operations.md starts it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn the_commands_of_the_documents_make_a_cluster_of_several_machines() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/three-machines.sh");
    let mut run = Command::new("bash");
    run.arg(script).arg(env!("CARGO_BIN_EXE_sr3")).stdin(Stdio::null());
    for variable in ["SR3_COORDINATOR", "SR3_TLS", "SR3_TOKEN", "SR3_TOKEN_FILE"] {
        run.env_remove(variable);
    }
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(77) => assert!(said.starts_with("left out: "), "{said}"),
        code => {
            assert_eq!(code, Some(0));
            assert!(said.contains("the bytes of one process, by 2 workers"), "{said}");
        }
    }
}
