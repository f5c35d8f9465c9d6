//! The context of a cluster that runs for a while, and what was current before.

use crate::contexts::Contexts;
use crate::contexts::Replaced;
use crate::failure::Failure;
use crate::local::Layout;

/// A context that was written and selected.
pub(super) struct Selection {
    context: String,
    replaced: Option<Replaced>,
    previous: Option<String>,
}

impl Selection {
    /// Writes and selects the context of a cluster.
    pub(super) fn make(context: &str, layout: &Layout) -> Result<Self, Failure> {
        let mut contexts = Contexts::load()?;
        let previous = contexts.current().map(str::to_owned);
        let admin = layout.admin();
        let client = [
            ("servers", layout.servers()),
            ("ca_file", admin.join("ca.pem").display().to_string()),
            ("cert_file", admin.join("cert.pem").display().to_string()),
            ("key_file", admin.join("key.pem").display().to_string()),
        ];
        let replaced = contexts.put(context, &client)?;
        contexts.save()?;
        Ok(Self {
            context: context.to_owned(),
            replaced,
            previous,
        })
    }

    /// Takes back a context whose certificates are about to vanish, unless it is somebody else's
    /// by now.
    pub(super) fn undo(self, layout: &Layout) -> Result<(), Failure> {
        if !layout.is_temporary() {
            return Ok(());
        }
        let mut contexts = Contexts::load()?;
        let ca_file = layout.admin().join("ca.pem").display().to_string();
        let ours = contexts.contains(&self.context)
            && contexts
                .settings(&self.context)?
                .contains(&("client.ca_file".to_owned(), ca_file));
        if !ours {
            return Ok(());
        }
        let was_current = contexts.current() == Some(self.context.as_str());
        contexts.remove(&self.context)?;
        if let Some(replaced) = self.replaced {
            contexts.restore(&self.context, replaced);
        }
        let previous = self
            .previous
            .filter(|name| was_current && contexts.contains(name));
        if let Some(previous) = previous {
            contexts.select(&previous)?;
        }
        contexts.save()
    }
}
