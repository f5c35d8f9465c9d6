//! Networks that lose, repeat, reorder and cut packets.

use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use tokio::net::UdpSocket;

use crate::world::World;
use crate::world::dial_from;
use crate::world::within;

/// UDP payload of a path with an MTU of 1280.
const PAYLOAD_MAX: usize = 1_280 - 48;

/// A reproducible sequence of fates.
struct Fate(u64);

impl Fate {
    /// A number below 100.
    fn percent(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 100
    }
}

/// Forwards packets between one client and the broker, badly.
async fn bad_path(inner: Arc<UdpSocket>, outer: Arc<UdpSocket>, client_side: bool, seed: u64) {
    let mut fate = Fate(seed);
    let mut buffer = vec![0; 65_536];
    let mut late: Option<Vec<u8>> = None;
    loop {
        let (len, from) = inner.recv_from(&mut buffer).await.unwrap();
        if client_side {
            // Answers go where packets came from.
            inner.connect(from).await.unwrap();
        }
        if len > PAYLOAD_MAX {
            continue;
        }
        let packet = buffer[..len].to_vec();
        let mut leaving = match fate.percent() {
            0..5 => vec![],
            5..8 => vec![packet.clone(), packet],
            8..13 if late.is_none() => {
                late = Some(packet);
                continue;
            }
            _ => vec![packet],
        };
        leaving.extend(late.take());
        for packet in leaving {
            // A packet that cannot be sent is one more that is lost.
            drop(outer.send(&packet).await);
        }
    }
}

#[tokio::test]
async fn frames_arrive_whole_and_once_over_a_path_that_loses_and_cuts() {
    let world = World::start();
    let client_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let broker_side = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    broker_side.connect(world.address()).await.unwrap();
    let door = client_side.local_addr().unwrap();
    let there = bad_path(client_side.clone(), broker_side.clone(), true, 7);
    let back = bad_path(broker_side, client_side, false, 11);
    let talk = async {
        let tls = world.tls(Some(&world.alice()));
        let client = dial_from("127.0.0.1:0", door, tls).await.unwrap();
        let server = world.listener.accept().await.unwrap();
        let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
        let frames: Vec<Vec<u8>> = (0..100_u32).map(numbered).collect();
        let all = frames.concat();
        let sending = async {
            send.write_all(&all).await.unwrap();
            send.finish().unwrap();
            receive.read_to_end(1 << 20).await.unwrap()
        };
        let answering = async {
            let (mut answers, mut received) = server.accept_stream().await.unwrap();
            received.set_limits(Limits {
                batch_bytes_max: 1 << 20,
                established: true,
            });
            let mut count = 0_u32;
            while let Some(frame) = received.next().await.unwrap() {
                assert_eq!(frame.body[..4], count.to_le_bytes());
                let echo = [&frame.header.encode()[..], &frame.body].concat();
                answers.send(Bytes::from(echo)).await.unwrap();
                count += 1;
            }
            answers.finish().unwrap();
            count
        };
        let (echoed, count) = tokio::join!(sending, answering);
        assert_eq!(count, 100);
        assert!(echoed == all);
        assert!(server.stats().lost_packets > 0, "the path was too good");
        assert!(usize::from(server.stats().mtu) <= PAYLOAD_MAX);
    };
    within(async {
        tokio::select! {
            () = there => unreachable!("a path has no end"),
            () = back => unreachable!("a path has no end"),
            () = talk => {}
        }
    })
    .await;
}

fn numbered(number: u32) -> Vec<u8> {
    let body = number.to_le_bytes().repeat(1_000);
    let header = FrameHeader {
        body_len: u32::try_from(body.len()).unwrap(),
        kind: Kind::REQUEST,
        flags: Flags::CRITICAL,
        version: 1,
    };
    [&header.encode()[..], &body].concat()
}
