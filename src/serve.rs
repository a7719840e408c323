//! The composition root: a checked file becomes a running process, and ends again.
//!
//! Read [`Instance::start`] from top to bottom: state and ledger, then the ports, then proxies.
//! Connections run on workers, a thread for each core; the control plane has a thread and a runtime
//! of its own, so that `heal` is answered however busy the connections are.

mod keep;
mod plan;
mod reload;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::clock::Timestamp;
use crate::config::{self, Config, ControlConfig, EvidenceConfig, Given, Hashed, Problems};
use crate::control::{self, Access, Ask, Control, Port};
use crate::evidence::{HashKey, Hashing, Ladder, Ledger, Room, Rotation, Sink};
use crate::metrics::Metrics;
use crate::otlp::Exporter;
use crate::pipeline::{Context, Held};
use crate::proxy::{Plan, Supervisor, Workers};
use crate::seed;
use crate::state::{By, Change, Draft, Source, State, Who};

use keep::Keeper;
use reload::Reloader;

/// A running Firedrill.
pub struct Instance {
    /// What its proxies share.
    pub context: Arc<Context>,
    /// Its proxies.
    pub supervisor: Arc<Supervisor>,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Where the metrics-only port listens.
    pub metrics: Option<SocketAddr>,
    drain: Duration,
    stop: watch::Sender<bool>,
    control_thread: thread::JoinHandle<()>,
    sink: Option<Sink>,
    exporter: Option<Exporter>,
    keeper: Option<Keeper>,
}

impl Instance {
    /// Starts everything or nothing. `reload`: who reads the file again, if there is one.
    ///
    /// # Errors
    /// A port that is taken, a file that can't be read or written: what, where and why.
    pub async fn start(config: Config, reload: Option<mpsc::Sender<Ask>>) -> anyhow::Result<Self> {
        let kept = match &config.control.state_file {
            Some(file) => keep::read(file)?.map(|kept| (file, kept)),
            None => None,
        };
        let same = kept.as_ref().map(|(_, kept)| kept.seed);
        let seed = config.seed.or(same).unwrap_or_else(seed::choose);
        let state = Arc::new(State::new(seed, config.control.heartbeat));
        // A start is the step from a file that says nothing. Nobody listens yet: no proxy is ever
        // without its rules, nor with those that were switched off when all this ran last.
        state.change(Source::File, |draft| {
            let mut put = config.proxies.iter().cloned().map(Change::PutEdge);
            put.try_for_each(|change| draft.apply(change))?;
            plan::definitions(&Config::default(), &config, draft)
        })?;
        let (put, kept, by) = match &kept {
            None => (config.proxies.clone(), Vec::new(), Source::File.into()),
            Some((file, kept)) => {
                let (put, kept) = keep::restore(file, kept, &config)?;
                let by = By {
                    source: Source::Api,
                    who: Who::StateFile,
                };
                (put, kept, by)
            }
        };
        let context = Arc::new(Context {
            ledger: Arc::new(Ledger::new(room(&config.evidence))),
            metrics: Arc::new(Metrics::new()?),
            seed,
            ladder: Ladder {
                own: config.identity,
                hashing: hashing(&config.evidence)?,
            },
            linger: config.limits.linger,
            half_close: config.limits.half_close,
            handshake: config.limits.handshake,
            held: Held::new(config.limits.held_per_connection, config.limits.held_total),
            state,
        });
        let access = access(&config.control)?;
        let control_port = bind(&config.control.listen, "control.listen")?;
        let metrics_port = match &config.metrics {
            Some(metrics) => Some(bind(&metrics.listen, "metrics.listen")?),
            None => None,
        };
        let rotation = config.evidence.rotate.map(|rotate| Rotation {
            size: rotate.size,
            keep: rotate.keep,
        });
        let sink = match &config.evidence.file {
            Some(file) => Some(
                Sink::open(&context.ledger, file, rotation)
                    .with_context(|| format!("can't write evidence to {}", file.display()))?,
            ),
            None => None,
        };
        let exporter = config.traces.as_ref().map(|traces| {
            tracing::info!("traces to {}", traces.otlp);
            Exporter::start(traces, &context.ledger, context.metrics.spans())
        });
        let workers = Workers::start().context("can't start the threads that carry connections")?;
        let supervisor = Arc::new(Supervisor::new(Arc::clone(&context), workers));
        let listening = Plan {
            put,
            ..Plan::default()
        };
        let also = |draft: &mut Draft| kept.into_iter().try_for_each(|kept| draft.apply(kept));
        supervisor
            .turn()
            .await
            .rearrange_with(listening, by, also)
            .await?;
        for edge in context.state.edges() {
            let (name, upstream) = (&edge.name, &edge.upstream);
            match supervisor.bound(name).filter(|_| edge.enabled) {
                Some(bound) => tracing::info!("proxy {name}: {bound} -> {upstream}"),
                None => tracing::info!("proxy {name}: disabled"),
            }
        }
        let keeper = config.control.state_file;
        let keeper = keeper.map(|file| Keeper::start(file, Arc::clone(&context.state)));
        let keeper = keeper.transpose()?;
        let (stop, stopped) = watch::channel(false);
        let control = control_port.local_addr()?;
        let metrics = metrics_port
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        let api = Control {
            context: Arc::clone(&context),
            supervisor: Arc::clone(&supervisor),
            access,
            upstreams: config.control.upstreams,
            started: Timestamp::now(),
            capacity: config.evidence.capacity,
            kept: keeper.as_ref().map(|keeper| keeper.kept.clone()),
            reload,
        };
        let tls = config.control.tls.and_then(|tls| tls.terminate);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = Port::new(config.control.max_connections, tls);
        let control_thread = run_control(api, (control_port, port), metrics_port, stopped)?;
        tracing::info!("control API on {scheme}://{control}, seed {seed}");
        Ok(Self {
            context,
            supervisor,
            control,
            metrics,
            drain: config.limits.drain,
            stop,
            control_thread,
            sink,
            exporter,
            keeper,
        })
    }

    /// Stops in bounded time: faults are lifted, operations that stand may finish within
    /// `limits.drain`, the rest is closed.
    pub async fn stop(self) {
        if let Some(keeper) = self.keeper {
            keeper.end(self.context.state.generation()).await;
        }
        self.supervisor.shut_down(self.drain).await;
        if let Some(exporter) = self.exporter {
            exporter.close().await;
        }
        // The control plane is last: `heal` and the metrics answer while connections drain.
        let _ = self.stop.send(true);
        let control = self.control_thread;
        let _ = tokio::task::spawn_blocking(move || control.join()).await;
        if let Some(sink) = self.sink {
            sink.close().await;
        }
    }
}

/// The files that say what runs, and what is said besides.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The operator's own.
    pub config: Option<PathBuf>,
    /// Proxies as Toxiproxy's `-config` file has them.
    pub toxiproxy: Option<PathBuf>,
    /// What the command line says, which beats the file.
    pub given: Given,
}

impl Files {
    /// What they say together.
    ///
    /// # Errors
    /// Everything that is wrong with the first that is not as it must be.
    pub fn load(&self) -> Result<Config, Problems> {
        let mut config = config::load_with(self.config.as_deref(), &self.given)?;
        if let Some(toxiproxy) = &self.toxiproxy {
            config::add_toxiproxy(&mut config, toxiproxy)?;
        }
        Ok(config)
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let both = [&self.config, &self.toxiproxy].into_iter();
        both.flatten().map(PathBuf::as_path)
    }
}

/// Runs what files say until SIGTERM or SIGINT. SIGHUP reads it again, SIGUSR1 heals. A second
/// signal ends the draining.
///
/// # Errors
/// Files that do not load, as [`Problems`]; what [`Instance::start`] meets.
pub async fn run(files: Files) -> anyhow::Result<()> {
    let config = files.load()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let mut heal = signal(SignalKind::user_defined1())?;
    let (reload, asked) = mpsc::channel(1);
    // Before it is said that anything runs, so that whoever writes the file then is noticed.
    let reloader = Reloader::new(files, config.clone());
    let instance = Instance::start(config, Some(reload)).await?;
    let supervisor = Arc::clone(&instance.supervisor);
    let state = Arc::clone(&instance.context.state);
    let reloading = tokio::spawn(reloader.run(supervisor, state, asked, hangup));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = heal.recv() => {
                // Never refused: it names nothing.
                let _ = instance.context.state.apply(vec![Change::Heal], signalled("SIGUSR1"));
            }
        }
    }
    reloading.abort();
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        () = instance.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn signalled(signal: &'static str) -> By {
    By {
        source: Source::Api,
        who: Who::Signal(signal),
    }
}

/// Binds a port before anything runs, so that one that is taken starts nothing.
fn bind(address: &str, key: &str) -> anyhow::Result<TcpListener> {
    let bind = || {
        let mut addresses = address.to_socket_addrs()?;
        let first = addresses.next();
        let listener = TcpListener::bind(first.ok_or(std::io::ErrorKind::AddrNotAvailable)?)?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(listener)
    };
    bind().with_context(|| format!("{key}: can't listen on {address}"))
}

/// The tokens are read once, here.
fn access(control: &ControlConfig) -> anyhow::Result<Access> {
    let read = |file: &Option<PathBuf>, key| {
        let token = file.as_deref().map(|file| read_secret(file, key));
        token.transpose()
    };
    let token = read(&control.token_file, "control.token_file")?;
    let read_token = read(&control.read_token_file, "control.read_token_file")?;
    anyhow::ensure!(
        token.is_none() || token != read_token,
        "control.read_token_file: it holds the token of control.token_file, which is for everything"
    );
    let access = Access::new(token, read_token, control.hosts.clone());
    Ok(access.opening_toxiproxy(control.toxiproxy_open))
}

/// How much evidence is kept, if any is.
fn room(config: &EvidenceConfig) -> Option<Room> {
    config.enabled.then_some(Room {
        records: config.capacity,
        bytes: usize::try_from(config.memory).unwrap_or(usize::MAX),
    })
}

fn hashing(config: &EvidenceConfig) -> anyhow::Result<Hashing> {
    let key = config.hash_key_file.as_deref();
    let key = key.map(|file| read_secret(file, "evidence.hash_key_file"));
    let key = key.transpose()?;
    let hashes = |what| config.hash.contains(&what);
    Ok(Hashing {
        identities: hashes(Hashed::Identities),
        paths: hashes(Hashed::Paths),
        clients: hashes(Hashed::Clients),
        headers: config.redact.clone(),
        key: match key {
            Some(secret) => HashKey::new(secret.as_bytes()),
            None => HashKey::default(),
        },
    })
}

fn read_secret(file: &Path, key: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{key}: can't read {}", file.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "{key}: {} is empty", file.display());
    if token.len() < SHORT {
        tracing::warn!("{key}: a secret of less than {SHORT} characters can be guessed");
    }
    Ok(token.to_owned())
}

/// A secret that is shorter can be guessed: wrong tokens are counted, but not slowed down.
const SHORT: usize = 16;

/// Starts the control plane's thread. It also ends what has lived long enough.
fn run_control(
    api: Control,
    (control, port): (TcpListener, Port),
    metrics: Option<TcpListener>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listen = |port| {
        let _guard = runtime.enter();
        tokio::net::TcpListener::from_std(port)
    };
    let (control, metrics) = (listen(control)?, metrics.map(listen).transpose()?);
    let stop = move || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the instance is gone, which is as good.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let run = async move {
        let context = Arc::clone(&api.context);
        let state = Arc::clone(&context.state);
        tokio::spawn(async move { state.keep_time().await });
        tokio::spawn(control::retire(Arc::clone(&context)));
        let scraped = async {
            if let Some(metrics) = metrics {
                control::serve_metrics(metrics, context, stop()).await;
            }
        };
        tokio::join!(control::serve(control, port, api, stop()), scraped);
    };
    let thread = thread::Builder::new().name("control".to_owned());
    Ok(thread.spawn(move || runtime.block_on(run))?)
}
