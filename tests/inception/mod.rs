//! FID's Inception network for tests: its weights, fetched once under `target/`, imported into caches of the tests' own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// The file of a package's weights.
fn file() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/inception.sh");
    let found = Command::new("bash").arg(script).arg("install").output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().into()
}

/// A cache that holds nothing but the weights: a folder of its own, so that nothing in it was looked at before.
pub(crate) fn cache() -> TempDir {
    static IMPORTED: OnceLock<TempDir> = OnceLock::new();
    let imported = IMPORTED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut import = Command::new(env!("CARGO_BIN_EXE_sr3"));
        import.args(["weights", "import"]).arg(file()).env("SR3_CACHE", folder.path());
        let imported = import.output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(imported.path().join("weights"), folder.path().join("weights")).unwrap();
    folder
}
