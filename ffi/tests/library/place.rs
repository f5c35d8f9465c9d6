//! Where things are: the source tree, the built library, folders to write to.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A folder that goes with the test.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The folder of this build: `target/debug` or the like.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    test.ancestors().nth(2).unwrap().to_path_buf()
}

/// The library as programs find it: `libquorate.so` and `libquorate.so.0` in one folder.
pub(crate) struct Library {
    pub(crate) shared: PathBuf,
    _dir: TempDir,
}

/// Builds a package of the workspace beside this test, as this test was built.
pub(crate) fn build(package: &str) {
    let built = built();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        package,
        "--target-dir",
    ]);
    cargo.arg(built.parent().unwrap()).current_dir(workspace());
    match built.file_name().unwrap().to_str().unwrap() {
        "debug" => {}
        profile => drop(cargo.args(["--profile", profile])),
    }
    run(&mut cargo);
}

/// Builds the library beside this test, once.
pub(crate) fn library() -> &'static Library {
    static BUILT: OnceLock<Library> = OnceLock::new();
    BUILT.get_or_init(|| {
        build("quorate-ffi");
        let built = built();
        let dir = scratch();
        let shared = dir.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        // Links: the next build must not change what a test is running.
        link(
            &built.join("libquorate.so"),
            &shared.join("libquorate.so.0"),
        );
        std::os::unix::fs::symlink("libquorate.so.0", shared.join("libquorate.so")).unwrap();
        Library { shared, _dir: dir }
    })
}

fn link(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).unwrap();
    }
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// Says by name that a test could not run on this machine, past the test runner, which hides what
/// passing tests print.
pub(crate) fn could_not_run(test: &str, why: &str) {
    let _told = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}").is_ok();
}

/// Whether a program is installed; if not, the test says that it did not run.
pub(crate) fn has_for(test: &str, program: &str) -> bool {
    let has = has(program);
    if !has {
        could_not_run(test, &format!("{program} is not installed"));
    }
    has
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
