//! A cluster on this machine: its files, and its brokers as child processes.

mod broker;
mod layout;
mod plan;

pub(crate) use crate::local::broker::Broker;
pub(crate) use crate::local::broker::signal;
pub(crate) use crate::local::layout::CLUSTER;
pub(crate) use crate::local::layout::Layout;
pub(crate) use crate::local::layout::name;
pub(crate) use crate::local::plan::Wish;

use rustix::process::Signal;

use crate::failure::Failure;

/// Every broker of a layout, not started.
pub(crate) fn brokers(layout: &Layout, overrides: &[(String, String)]) -> Vec<Broker> {
    let ids = layout.plan().ids();
    ids.map(|id| Broker::new(layout, id, overrides)).collect()
}

/// Starts them together, since none of them is ready without a majority, and waits for all.
pub(crate) async fn start(brokers: &mut [Broker]) -> Result<(), Failure> {
    for broker in brokers.iter_mut() {
        broker.launch()?;
    }
    for broker in brokers {
        broker.ready().await?;
    }
    Ok(())
}

/// Lets them finish what they promised, together.
pub(crate) async fn stop(brokers: &mut [Broker]) -> Result<(), Failure> {
    for pid in brokers.iter().filter_map(Broker::pid) {
        signal(pid, Signal::TERM);
    }
    let mut result = Ok(());
    for broker in brokers {
        let stopped = broker.stop().await;
        result = result.and(stopped);
    }
    result
}

/// Ends them at once.
pub(crate) async fn kill(brokers: &mut [Broker]) -> Result<(), Failure> {
    for broker in brokers {
        broker.kill().await?;
    }
    Ok(())
}
