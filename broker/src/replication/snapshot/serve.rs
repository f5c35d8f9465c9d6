//! The giving side of one transfer: what was asked for, in pieces, one read ahead.

use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::{
    Bounded, DecodeError, ErrorCode, LogIndex, Message, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotChunk,
    SnapshotDone, SnapshotManifest, SnapshotOpen, SnapshotResume,
};
use quorate_storage::{Lane, ShipError, Shipment, Storage};
use tokio::sync::{Semaphore, oneshot};

use crate::replication::snapshot::job::{self, Lost};
use crate::replication::snapshot::line::{self, Broken, Line};
use crate::replication::snapshot::pace::Pace;
use crate::replication::snapshot::place::Place;

/// How long a transfer waits for others to end before it is refused.
const QUEUE: Duration = Duration::from_secs(5);

/// Why a transfer was not served to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unserved {
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("{0}")]
    Nonsense(#[from] DecodeError),
    #[error("the other broker has more of the files than there is")]
    Resume,
    #[error("a file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{0}")]
    Lost(#[from] Lost),
}

/// What all transfers share.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) pace: Pace,
    pub(super) served_at_once: Semaphore,
}

/// A piece of a file, and where the next one begins.
type Piece = (Shipment, std::io::Result<Bytes>);

impl Counter {
    /// Serves an opened transfer from a group that was found and may be given.
    pub(super) async fn serve(
        &self,
        place: &Place,
        open: &SnapshotOpen,
        line: &mut dyn Line,
    ) -> Result<(), Unserved> {
        let queued = tokio::time::timeout(QUEUE, self.served_at_once.acquire());
        let Ok(Ok(_one)) = queued.await else {
            let why = "too many transfers are under way";
            return Ok(line::reject(line, ErrorCode::OVERLOADED, why).await?);
        };
        let shipment = match self.collect(place, open).await? {
            Ok(shipment) => shipment,
            Err(error) => {
                let code = code_of(&error);
                return Ok(line::reject(line, code, &error.to_string()).await?);
            }
        };
        let commit = shipment.last_index();
        let files = Bounded::clipped(shipment.files().iter().copied());
        let manifest = SnapshotManifest { files, commit };
        line::send(line, vec![manifest.to_frame()]).await?;
        let storage = place.reader.storage().as_ref();
        let resume = line::receive(line).await?;
        let SnapshotResume { have } = SnapshotResume::decode_frame(&resume.header, &resume.body)?;
        let fits = have.len() == shipment.files().len()
            && have
                .iter()
                .zip(shipment.files())
                .all(|(have, file)| *have <= file.len);
        if !fits {
            return Err(Unserved::Resume);
        }
        let bytes = self.pieces((storage, shipment), &have, line).await?;
        line::send(line, vec![SnapshotDone { bytes }.to_frame()]).await?;
        // The stream must live until the other side has read it; how that ends it tells the leader.
        match tokio::time::timeout(line::PATIENCE, line.receive()).await {
            Ok(Ok(_)) | Err(_) => Ok(()),
            Ok(Err(broken)) => Err(broken.into()),
        }
    }

    async fn collect(
        &self,
        place: &Place,
        open: &SnapshotOpen,
    ) -> Result<Result<Shipment, ShipError>, Lost> {
        let (reader, checkpoints) = (place.reader.clone(), place.checkpoints.clone());
        let point = (open.index, open.term);
        let commit: LogIndex = place.status.borrow().commit;
        let work = move || reader.ship(&checkpoints, point, commit);
        job::run(&**place.reader.storage(), Lane::Read, work)
            .await
            .map_err(|_| Lost)
    }

    /// Sends what is missing of each file; answers how many bytes that was.
    async fn pieces(
        &self,
        (storage, shipment): (&dyn Storage, Shipment),
        have: &[u64],
        line: &mut dyn Line,
    ) -> Result<u64, Unserved> {
        let mut sent = 0;
        let lens: Vec<u64> = shipment.files().iter().map(|file| file.len).collect();
        let mut places = Places::new(&lens, have);
        let mut coming = places.next().map(|at| (at, read(storage, shipment, at)));
        while let Some(((file, at), reading)) = coming.take() {
            let (shipment, bytes) = reading.await.map_err(|_| Lost)?;
            let bytes = bytes?;
            coming = places.next().map(|at| (at, read(storage, shipment, at)));
            self.pace.pass(bytes.len()).await;
            sent += bytes.len() as u64;
            let file = u32::try_from(file).unwrap_or(u32::MAX);
            let chunk = SnapshotChunk { file, at, bytes };
            let prefix = Bytes::copy_from_slice(&chunk.frame_prefix());
            line::send(line, vec![prefix, chunk.bytes]).await?;
        }
        Ok(sent)
    }
}

fn read(
    storage: &dyn Storage,
    mut shipment: Shipment,
    (file, at): (usize, u64),
) -> oneshot::Receiver<Piece> {
    job::run(storage, Lane::Read, move || {
        let bytes = shipment.read(file, at, SNAPSHOT_CHUNK_BYTES_MAX);
        (shipment, bytes)
    })
}

/// Where pieces begin: file after file, from what is there already.
#[derive(Debug)]
struct Places<'a> {
    lens: &'a [u64],
    have: &'a [u64],
    file: usize,
    at: Option<u64>,
}

impl<'a> Places<'a> {
    const fn new(lens: &'a [u64], have: &'a [u64]) -> Self {
        Self {
            lens,
            have,
            file: 0,
            at: None,
        }
    }
}

impl Iterator for Places<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (len, have) = (*self.lens.get(self.file)?, *self.have.get(self.file)?);
            let at = self.at.unwrap_or(have);
            if at < len {
                self.at = Some(at.saturating_add(SNAPSHOT_CHUNK_BYTES_MAX as u64));
                return Some((self.file, at));
            }
            (self.file, self.at) = (self.file + 1, None);
        }
    }
}

const fn code_of(error: &ShipError) -> ErrorCode {
    match error {
        ShipError::Absent { .. } => ErrorCode::PRECONDITION_FAILED,
        _ => ErrorCode::DATA_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn pieces_cover_what_is_missing_and_nothing_else() {
        let (lens, have) = ([10, 2 * MIB + 1, 5, MIB], [10, 1, 0, 0]);
        let places: Vec<_> = Places::new(&lens, &have).collect();
        assert_eq!(places, [(1, 1), (1, MIB + 1), (2, 0), (3, 0)]);
        assert_eq!(Places::new(&[], &[]).next(), None);
    }
}
