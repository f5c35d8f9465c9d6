//! The staged files of one transfer: written while more comes, proved while more is written.
//!
//! At most one piece is being written and one file is being proved; whoever brings more waits.

use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::SnapshotFile;
use quorate_storage::{Arrived, Proof, Staging, Storage};

use crate::replication::snapshot::job::{self, Held, Lost, Setback};

/// Files on their way in.
#[derive(Debug)]
pub(super) struct Intake {
    storage: Arc<dyn Storage>,
    files: Vec<SnapshotFile>,
    have: Vec<u64>,
    staging: Held<Staging>,
    proof: Held<Proof>,
    /// Files below this one are complete once the piece being written is.
    complete: usize,
}

impl Intake {
    pub(super) fn new(storage: &Arc<dyn Storage>, staging: Staging, proof: Proof) -> Self {
        Self {
            storage: Arc::clone(storage),
            files: staging.files().to_vec(),
            have: staging.have().to_vec(),
            staging: Held::new(staging),
            proof: Held::new(proof),
            complete: 0,
        }
    }

    /// Per file, how many of its bytes were here at the beginning.
    pub(super) fn have(&self) -> &[u64] {
        &self.have
    }

    /// Takes one piece.
    pub(super) async fn take(&mut self, file: u32, at: u64, bytes: Bytes) -> Result<(), Setback> {
        let number = usize::try_from(file).unwrap_or(usize::MAX);
        self.written().await?;
        let end = at.saturating_add(bytes.len() as u64);
        if self.files.get(number).is_some_and(|file| file.len == end) {
            self.complete = number + 1;
        }
        let write = move |staging: &mut Staging| staging.write(number, at, &bytes).map(drop);
        self.staging.lend(&*self.storage, write);
        Ok(())
    }

    /// Proves what is left.
    pub(super) async fn finish(mut self) -> Result<Arrived, Setback> {
        self.written().await?;
        self.proof.back().await?;
        let proof = self.proof.take().ok_or(Lost)?;
        let proving = job::run(&*self.storage, quorate_storage::Lane::Flush, || {
            proof.finish()
        });
        Ok(proving.await.map_err(|_| Lost)??)
    }

    /// Waits until nothing touches the files any more.
    pub(super) async fn settle(&mut self) -> Result<(), Setback> {
        let written = self.staging.back().await.map(drop);
        let proved = self.proof.back().await.map(drop);
        written.and(proved)
    }

    /// The piece before is written; a file that it made complete is looked at.
    async fn written(&mut self) -> Result<(), Setback> {
        self.staging.back().await?;
        let until = std::mem::take(&mut self.complete);
        if until > 0 {
            self.proof.back().await?;
            self.proof
                .lend(&*self.storage, move |proof| proof.pass(until));
        }
        Ok(())
    }
}
