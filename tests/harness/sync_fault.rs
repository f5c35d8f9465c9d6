//! Flushes that fail on demand: a library preloaded into the broker, compiled when it is needed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::cluster::TestCluster;
use crate::plan::ClusterPlan;

/// Fails every flush with EIO once the file named in `QRT_SYNC_FAILS` is there.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
    const char *trigger = getenv("QRT_SYNC_FAILS");
    return trigger && access(trigger, F_OK) == 0;
}

#define SYNC(name)                                            \
    int name(int file) {                                      \
        int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (fails()) {                                        \
            errno = EIO;                                      \
            return -1;                                        \
        }                                                     \
        return next(file);                                    \
    }

SYNC(fsync)
SYNC(fdatasync)
"#;

/// A fault that has not struck yet.
#[derive(Debug)]
pub struct SyncFault {
    library: PathBuf,
    trigger: PathBuf,
}

impl SyncFault {
    /// Compiles the library.
    ///
    /// # Errors
    /// Why this machine cannot.
    pub fn prepare(folder: &Path) -> Result<Self, String> {
        let source = folder.join("sync_fault.c");
        let library = folder.join("sync_fault.so");
        fs::write(&source, SOURCE).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output();
        match compiled {
            Ok(output) if output.status.success() => Ok(Self {
                library,
                trigger: folder.join("sync_fails"),
            }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("cc: {error}")),
        }
    }

    /// A cluster whose broker can be struck.
    #[must_use]
    pub fn threaten(&self, cluster: TestCluster) -> TestCluster {
        cluster
            .with_variable("LD_PRELOAD", &self.library)
            .with_variable("QRT_SYNC_FAILS", &self.trigger)
    }

    /// A cluster one of whose brokers can be struck.
    #[must_use]
    pub fn threaten_one(&self, plan: ClusterPlan, id: u16) -> ClusterPlan {
        plan.with_variable(id, "LD_PRELOAD", &self.library)
            .with_variable(id, "QRT_SYNC_FAILS", &self.trigger)
    }

    /// From now on every flush fails.
    pub fn strike(&self) {
        fs::write(&self.trigger, "").unwrap();
    }

    /// Flushes work again.
    pub fn relent(&self) {
        fs::remove_file(&self.trigger).unwrap();
    }
}
