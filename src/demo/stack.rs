//! The running whole: five services, a Firedrill with a proxy on every edge, and its control API.
//!
//! Puts things together and takes them apart. What is told of them is read in `story`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::caller::{Ways, Web};
use super::http::Way;
use super::ledger::Ledger;
use super::payment::Payment;
use super::service::{Busy, Port, Role};
use super::shop::{Email, Inventory, Orders};
use crate::client::Client;
use crate::clock;
use crate::config::{self, Config};
use crate::evidence::{Class, Filter, Record};
use crate::serve::Instance;

/// The file as a reader would write it. Its ports are taken where they are asked for and free.
pub const FILE: &str = include_str!("firedrill.yaml");

/// Any free port.
const ANY: &str = "127.0.0.1:0";

/// Until all that was begun has ended.
const REST: Duration = Duration::from_secs(10);
/// Between one look and the next.
const LOOK: Duration = Duration::from_millis(5);

/// Which ports to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Any that are free.
    Any,
    /// Those in the file, where they are free.
    Friendly,
}

/// See the module.
pub struct Stack {
    /// The control API, as any user meets it.
    pub control: Client,
    /// Payment, with its own switches.
    pub payment: Arc<Payment>,
    /// What listens where: name, proxy, service.
    pub addresses: Vec<(String, SocketAddr, String)>,
    /// The addresses in the file that others had taken; any free port stands for each.
    pub taken: Vec<String>,
    /// Where a customer finds web.
    pub(super) web: SocketAddr,
    web_role: Arc<Web>,
    inventory: Arc<Inventory>,
    orders: Arc<Orders>,
    email: Arc<Email>,
    busy: Busy,
    instance: Instance,
    /// Ended when dropped.
    _services: JoinSet<()>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({})", self.control.url())
    }
}

impl Stack {
    /// Starts all of it, with nothing ordered yet and no rule on.
    ///
    /// # Errors
    /// No port is left, or Firedrill can't start.
    pub async fn start(ports: Ports) -> anyhow::Result<Self> {
        let mut config = config::parse(FILE, "firedrill.yaml")?;
        let mut taken = Vec::new();
        let mut choose = |address: &mut String| {
            if ports == Ports::Friendly && is_free(address) {
                return;
            }
            let wanted = std::mem::replace(address, ANY.to_owned());
            if ports == Ports::Friendly {
                taken.push(wanted);
            }
        };
        choose(&mut config.control.listen);
        for edge in &mut config.proxies {
            choose(&mut edge.listen);
            choose(&mut edge.upstream);
        }
        // Services first: a proxy needs to know its upstream.
        let at_web = bind(&mut config, "web").await?;
        let at_inventory = bind(&mut config, "inventory").await?;
        let at_payment = bind(&mut config, "payment").await?;
        let at_orders = bind(&mut config, "orders").await?;
        let at_email = bind(&mut config, "email").await?;
        let instance = Instance::start(config, None).await?;
        let control = Client::new(&format!("http://{}", instance.control), None)?;
        let mut addresses = Vec::new();
        for proxy in control.proxies().await?.items {
            let listen = proxy.listen.parse();
            let listen: SocketAddr =
                listen.with_context(|| format!("no address: {}", proxy.listen))?;
            addresses.push((proxy.name, listen, proxy.upstream));
        }
        let way = |name: &str| {
            let found = addresses.iter().find(|(proxy, ..)| proxy == name);
            let (_, listen, _) = found.with_context(|| format!("no proxy `{name}`"))?;
            anyhow::Ok(*listen)
        };
        let known = |name: &str| anyhow::Ok(Way::from(way(name)?.to_string()));

        let busy = Busy::default();
        let ways = Ways {
            inventory: known("inventory")?,
            payment: known("payment")?,
            orders: known("orders")?,
        };
        let web_role = Arc::new(Web::new(ways, busy.clone()));
        let inventory = Arc::new(Inventory::default());
        let payment = Arc::new(Payment::default());
        let orders = Arc::new(Orders {
            ledger: Ledger::default(),
            email: known("email")?,
        });
        let email = Arc::new(Email::default());
        let mut services = JoinSet::new();
        services.spawn(at_web.serve(Arc::clone(&web_role), busy.clone()));
        services.spawn(at_inventory.serve(Arc::clone(&inventory), busy.clone()));
        services.spawn(at_payment.serve(Arc::clone(&payment), busy.clone()));
        services.spawn(at_orders.serve(Arc::clone(&orders), busy.clone()));
        services.spawn(at_email.serve(Arc::clone(&email), busy.clone()));
        let web = way("web")?;
        Ok(Self {
            control,
            payment,
            addresses,
            taken,
            web,
            web_role,
            inventory,
            orders,
            email,
            busy,
            instance,
            _services: services,
        })
    }

    /// What each participant durably knows, in the order of the story.
    pub fn ledgers(&self) -> [(&'static str, &Ledger); 5] {
        [
            ("web", self.web_role.ledger()),
            ("inventory", self.inventory.ledger()),
            ("payment", self.payment.ledger()),
            ("orders", self.orders.ledger()),
            ("e-mail", self.email.ledger()),
        ]
    }

    /// Waits until no service works and the proxies have closed every record, and answers these.
    ///
    /// # Errors
    /// That does not come about, or the control API does not answer.
    pub async fn rest(&self) -> anyhow::Result<Vec<Record>> {
        let deadline = clock::now() + REST;
        loop {
            // In this order: who is idle begins nothing new.
            let idle = self.busy.is_idle();
            let records = self.control.evidence(&Filter::default()).await?;
            let records = records.collect().await?;
            let open = records.iter().filter(|r| r.class == Class::Open).count();
            if idle && open == 0 {
                return Ok(records);
            }
            anyhow::ensure!(
                clock::now() < deadline,
                "after {REST:?} it has not come to rest: services are {}, {open} records are open",
                if idle { "idle" } else { "busy" },
            );
            clock::sleep(LOOK).await;
        }
    }

    /// Stops all of it.
    pub async fn stop(self) {
        self.instance.stop().await;
    }
}

/// Binds the port of a service, and tells its proxy.
async fn bind(config: &mut Config, name: &str) -> anyhow::Result<Port> {
    let mut edges = config.proxies.iter_mut();
    let edge = edges.find(|edge| edge.name == name);
    let edge = edge.with_context(|| format!("the file has no proxy `{name}`"))?;
    let port = Port::bind(&edge.upstream).await?;
    edge.upstream = port.address.to_string();
    Ok(port)
}

/// Whether nobody listens there now.
fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}
