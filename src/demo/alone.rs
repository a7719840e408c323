//! `--service`: one service of the story alone, as a container of a stack runs it.

use std::sync::Arc;

use anyhow::Context as _;

use super::caller::{Ways, Web};
use super::http::Way;
use super::ledger::Ledger;
use super::payment::Payment;
use super::service::{Busy, Port};
use super::shop::{Email, Inventory, Orders};
use super::stack::FILE;
use super::stand::told_to_stop;
use crate::config::{self, Config};

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Takes orders.
    Web,
    /// Owns whether an item is reserved.
    Inventory,
    /// Owns whether money is taken.
    Payment,
    /// Owns whether an order is official.
    Orders,
    /// Owns what was sent.
    Email,
}

impl Service {
    /// Each, and the name of its proxy.
    pub const ALL: [(&'static str, Self); 5] = [
        ("web", Self::Web),
        ("inventory", Self::Inventory),
        ("payment", Self::Payment),
        ("orders", Self::Orders),
        ("email", Self::Email),
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(word, _)| *word == name);
        found.map(|(_, service)| service)
    }

    fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, service)| *service == self);
        found.map_or("", |(word, _)| word)
    }

    /// Runs it until SIGTERM or SIGINT. `listen`: where, else as in the demo's file; `through`: the
    /// host of the proxies by which it reaches others, whose ports are those of the file.
    ///
    /// # Errors
    /// It can't listen there.
    pub async fn run(
        self,
        listen: Option<&str>,
        through: &str,
        say: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()> {
        let stop = told_to_stop()?;
        let config = config::parse(FILE, "firedrill.yaml")?;
        let own = edge(&config, self.name())?;
        let port = Port::bind(listen.unwrap_or(&own.upstream)).await?;
        say(&format!("{} answers on {}.", self.name(), port.address));
        let way = |name: &str| {
            let listen = &edge(&config, name)?.listen;
            let (_, port) = listen
                .rsplit_once(':')
                .context("an address without a port")?;
            anyhow::Ok(Way::from(format!("{through}:{port}")))
        };
        let busy = Busy::default();
        let serve = async {
            match self {
                Self::Web => {
                    let ways = Ways {
                        inventory: way("inventory")?,
                        payment: way("payment")?,
                        orders: way("orders")?,
                    };
                    let web = Web::new(ways, busy.clone());
                    port.serve(Arc::new(web), busy).await;
                }
                Self::Inventory => port.serve(Arc::<Inventory>::default(), busy).await,
                Self::Payment => port.serve(Arc::<Payment>::default(), busy).await,
                Self::Orders => {
                    let orders = Orders {
                        ledger: Ledger::default(),
                        email: way("email")?,
                    };
                    port.serve(Arc::new(orders), busy).await;
                }
                Self::Email => port.serve(Arc::<Email>::default(), busy).await,
            }
            anyhow::Ok(())
        };
        tokio::select! {
            served = serve => served,
            () = stop => Ok(()),
        }
    }
}

fn edge<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c crate::rules::Edge> {
    let found = config.proxies.iter().find(|edge| edge.name == name);
    found.with_context(|| format!("the file has no proxy `{name}`"))
}
