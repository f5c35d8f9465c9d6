//! Several futures driven at once, without tasks of their own.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

enum Slot<F: Future> {
    Running(Pin<Box<F>>),
    Done(F::Output),
}

/// The outputs of all, in the order given. Each wake-up looks at all of them: meant for a few.
pub(super) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let running = futures
        .into_iter()
        .map(|future| Slot::Running(Box::pin(future)));
    let mut slots: Vec<Slot<F>> = running.collect();
    poll_fn(|context| {
        let mut waiting = false;
        for slot in &mut slots {
            if let Slot::Running(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *slot = Slot::Done(output),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    let outputs = slots.into_iter().filter_map(|slot| match slot {
        Slot::Done(output) => Some(output),
        Slot::Running(_) => None,
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn outputs_keep_their_order_whichever_ends_first() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (first, first_heard) = oneshot::channel();
        let (second, second_heard) = oneshot::channel();
        let said = runtime.block_on(async {
            let all = together([first_heard, second_heard]);
            let speak = async {
                second.send(2).unwrap();
                tokio::task::yield_now().await;
                first.send(1).unwrap();
            };
            tokio::join!(all, speak).0
        });
        assert_eq!(said, [Ok(1), Ok(2)]);
    }
}
