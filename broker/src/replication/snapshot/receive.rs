//! The receiving side of one transfer, from its first frame to files that are proved.

use std::sync::Arc;

use quorate_protocol::{
    Bounded, DecodeError, ErrorCode, Kind, Message, SnapshotChunk, SnapshotDone, SnapshotFile,
    SnapshotManifest, SnapshotOpen, SnapshotResume, StreamReject,
};
use quorate_storage::{Arrived, Lane, Proof, StageError, Staging};
use tokio_util::sync::CancellationToken;

use crate::replication::shard::event::Install;
use crate::replication::snapshot::intake::Intake;
use crate::replication::snapshot::job::{self, Lost, Setback};
use crate::replication::snapshot::line::{self, Broken, Line, Received};
use crate::replication::snapshot::place::Place;

/// The files of a snapshot.
type Files = Bounded<SnapshotFile, 65_536>;

/// Why no files arrived. What came of them is kept for the next attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("the other broker refused: {code} {detail}")]
    Refused { code: ErrorCode, detail: String },
    #[error("{0}")]
    Nonsense(#[from] DecodeError),
    #[error("{0}")]
    Disk(#[from] Setback),
    #[error("the other broker offered another list than it sent")]
    Other,
    #[error("it is not needed any more")]
    Stopped,
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        Self::Disk(lost.into())
    }
}

impl From<StageError> for Failed {
    fn from(error: StageError) -> Self {
        Self::Disk(error.into())
    }
}

/// Fetches the files of an install and proves them. Once `stop` is cancelled nothing is fetched any
/// more; in any case nothing touches the files when this returns.
pub(super) async fn fetch(
    place: &Place,
    install: &Install,
    line: &mut dyn Line,
    stop: &CancellationToken,
) -> Result<Arrived, Failed> {
    let asking = stop.run_until_cancelled(ask(install, line));
    let files = asking.await.ok_or(Failed::Stopped)??;
    let mut intake = begin(place, install, files).await?;
    let filling = stop.run_until_cancelled(fill(line, &mut intake));
    let filled = filling.await.unwrap_or(Err(Failed::Stopped));
    match filled {
        Ok(()) => Ok(intake.finish().await?),
        Err(failed) => {
            intake.settle().await?;
            Err(failed)
        }
    }
}

async fn ask(install: &Install, line: &mut dyn Line) -> Result<Files, Failed> {
    let open = SnapshotOpen {
        group: install.group,
        tag: install.tag,
        from: install.replica,
        index: install.index,
        term: install.term,
    };
    line::send(line, vec![open.to_frame()]).await?;
    let answer = line::receive(line).await?;
    let Received { header, body } = refused(answer)?;
    let SnapshotManifest { files, commit } = SnapshotManifest::decode_frame(&header, &body)?;
    if files.last().is_none_or(|last| last.last != commit) {
        return Err(Failed::Other);
    }
    Ok(files)
}

/// Looks at what is there already. To its end: nothing else may touch the files meanwhile.
async fn begin(place: &Place, install: &Install, files: Files) -> Result<Intake, Failed> {
    let storage = place.reader.storage();
    let (dir, identity) = (place.spec.dir.clone(), place.identity());
    let (index, term) = (install.index, install.term);
    let volume = Arc::clone(storage);
    let beginning = job::run(&**storage, Lane::Flush, move || {
        let staging = Staging::begin(&volume, &dir, index, &files)?;
        let proof = Proof::new(&volume, &dir, identity, term, &files);
        Ok::<_, StageError>((staging, proof))
    });
    let (staging, proof) = beginning.await.map_err(|_| Lost)??;
    Ok(Intake::new(storage, staging, proof))
}

async fn fill(line: &mut dyn Line, intake: &mut Intake) -> Result<(), Failed> {
    let have = Bounded::clipped(intake.have().iter().copied());
    line::send(line, vec![SnapshotResume { have }.to_frame()]).await?;
    loop {
        let Received { header, body } = refused(line::receive(line).await?)?;
        if header.kind != Kind::SNAPSHOT_CHUNK || header.version != SnapshotChunk::VERSION {
            SnapshotDone::decode_frame(&header, &body)?;
            return Ok(());
        }
        let chunk = SnapshotChunk::decode(body)?;
        intake.take(chunk.file, chunk.at, chunk.bytes).await?;
    }
}

fn refused(frame: Received) -> Result<Received, Failed> {
    if frame.header.kind != StreamReject::KIND {
        return Ok(frame);
    }
    let reject = StreamReject::decode_frame(&frame.header, &frame.body)?;
    Err(Failed::Refused {
        code: reject.code,
        detail: reject.detail.into_string(),
    })
}
