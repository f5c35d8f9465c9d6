//! ADMIN: one request, one reply, end.

use std::sync::Arc;

use quorate_protocol::Credit;
use quorate_protocol::Message;
use quorate_protocol::Offset;
use quorate_protocol::Request;
use quorate_protocol::StreamAccept;

use crate::session::connection::Session;
use crate::session::requests;
use crate::session::stream::Stop;
use crate::session::stream::Stream;

/// Serves one administrative request.
pub(super) async fn serve(session: &Arc<Session>, stream: &mut Stream) -> Result<(), Stop> {
    let accept = StreamAccept {
        start: Offset::ZERO,
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        credit: Credit::new(0),
    };
    stream.send(&accept).await?;
    let Some(frame) = stream.receiver.next().await? else {
        return stream.finish().await;
    };
    let request = Request::decode_frame(&frame.header, &frame.body)?;
    let reply = requests::answer(session, &request).await;
    stream.send(&reply).await?;
    stream.finish().await
}
