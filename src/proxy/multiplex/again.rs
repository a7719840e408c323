//! Delivering a request again: on an HTTP/2 connection of its own, whose answer the client does not
//! get (or gets instead of the first).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Request, Response};
use tokio::sync::oneshot;

use super::frames::What;
use super::io::{Io, Side};
use crate::clock::{self, Instant};
use crate::evidence::{Digester, replayed};
use crate::faults::{Again, When};
use crate::pipeline::{Hold, Receipt, Witness};
use crate::proxy::copy::{Attempt, Begin, MOST_KEPT, Towards};
use crate::proxy::peer::{Peer, Socket};
use crate::proxy::watch::CLOSING;

/// A request that is being kept, to be delivered again.
#[derive(Debug)]
pub(super) struct Keeping {
    head: Request<()>,
    body: BytesMut,
    again: Vec<(Again, Receipt)>,
    hold: Hold,
    towards: Towards,
}

/// A request that was read to its end.
#[derive(Debug, Clone)]
struct Kept {
    head: Request<()>,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// A copy's answer, whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: Response<()>,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Keeping {
    /// `instead`: what goes on in the place of its body.
    pub(super) fn new(
        head: Request<()>,
        instead: Option<&Bytes>,
        again: Vec<(Again, Receipt)>,
        hold: Hold,
        towards: Towards,
    ) -> Self {
        Self {
            head,
            body: instead.map_or_else(BytesMut::new, |body| BytesMut::from(&body[..])),
            again,
            hold,
            towards,
        }
    }

    /// Takes in content; answers whether it can still be kept.
    pub(super) fn take(&mut self, bytes: &Bytes) -> bool {
        let fits = self.body.len() + bytes.len() <= MOST_KEPT;
        if fits {
            self.body.extend_from_slice(bytes);
        }
        fits
    }

    /// Delivers the request again, as often as its rules say. `wants`: the client can still get
    /// another answer than the first, which is read `whole` or not.
    pub(super) fn send(
        self,
        witness: &Witness,
        trailers: Option<HeaderMap>,
        wants: bool,
        whole: bool,
    ) -> Pending {
        let message = Kept {
            head: self.head,
            body: self.body.freeze(),
            trailers,
        };
        let due = self.hold.due(clock::now());
        let mut pending = Pending::default();
        for (again, receipt) in self.again {
            for n in 1..=again.copies {
                let last = again.last && n == again.copies && pending.wanted.is_none() && wants;
                let client = last.then(|| {
                    let (client, answer) = oneshot::channel();
                    pending.wanted = Some(answer);
                    client
                });
                let (begin, after) = match again.when {
                    When::AtOnce => (Begin::AtOnce, again.gap * n),
                    When::Lifted => (Begin::Lifted, again.gap * (n - 1)),
                    When::Answered if whole => (Begin::AtOnce, again.gap * (n - 1)),
                    When::Answered => {
                        let (begin, answered) = oneshot::channel();
                        pending.after_answer.push(begin);
                        (Begin::When(answered), again.gap * (n - 1))
                    }
                };
                let attempt = Attempt::new(&self.towards, witness, receipt.clone());
                let copy = deliver(attempt, message.clone(), begin, due, after, client);
                tokio::spawn(copy);
            }
        }
        pending
    }
}

/// What copies that were sent wait for, and are waited for.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The answer that the client gets instead of the first.
    pub(super) wanted: Option<oneshot::Receiver<Whole>>,
    /// Those that begin once the first answer has been read whole.
    pub(super) after_answer: Vec<oneshot::Sender<()>>,
}

/// Runs until delivered and answered, lifted, or the process stops.
async fn deliver(
    attempt: Attempt,
    message: Kept,
    begin: Begin,
    due: Instant,
    after: Duration,
    client: Option<oneshot::Sender<Whole>>,
) {
    let attempt = &attempt;
    let outlives = matches!(begin, Begin::Lifted);
    let delivering = async {
        let Some(from) = attempt.begin(begin, due).await else {
            return;
        };
        clock::sleep_until(from + after).await;
        let exchange = |socket, delivery| exchange(attempt, socket, message, delivery, client);
        attempt.deliver(super::link::spoken(), exchange).await;
    };
    attempt.run(delivering, outlives).await;
}

async fn exchange(
    attempt: &Attempt,
    socket: Socket,
    message: Kept,
    delivery: u32,
    client: Option<oneshot::Sender<Whole>>,
) -> Result<(), h2::Error> {
    let io = Io::new(Side::upstream(Peer::new(socket), None));
    let side = io.clone();
    let (mut upstream, mut connection) = super::link::builder().handshake(io).await?;
    let mut connection = pin!(poll_fn(|cx| {
        let over = Pin::new(&mut connection).poll(cx);
        let mut side = side.side();
        if side.flush(cx) {
            // It is polled again, and told.
            cx.waker().wake_by_ref();
        }
        if side.went.drain(..).any(|seen| seen.what == What::Begun) {
            attempt.sent(delivery);
        }
        let came = side.came.drain(..).filter(|seen| seen.stream > 0);
        let len: usize = came
            .map(|seen| seen.len * usize::from(seen.what != What::Begun))
            .sum();
        if len > 0 {
            attempt.witness.answer_bytes(delivery, len);
        }
        over
    }));
    let asking = async {
        poll_fn(|cx| upstream.poll_ready(cx)).await?;
        let end = message.body.is_empty() && message.trailers.is_none();
        let (answer, to) = upstream.send_request(message.head, end)?;
        let sending = async {
            match end {
                true => Ok(to),
                false => send(to, message.body, message.trailers).await,
            }
        };
        let (sent, read) = tokio::join!(sending, read(attempt, delivery, answer, client.is_some()));
        // An upstream that has answered may take no more of the request.
        let (whole, _) = (read?, sent);
        if let (Some(client), Some(whole)) = (client, whole) {
            // The client may have gone; then nobody wants it.
            let _ = client.send(whole);
        }
        drop(upstream);
        Ok::<_, h2::Error>(())
    };
    let limit = attempt.limit();
    let mut asking = pin!(clock::within(limit, asking));
    let asked = tokio::select! {
        biased;
        asked = &mut asking => asked,
        // What was read before is still there.
        _ = &mut connection => return asking.await.unwrap_or(Ok(())),
    };
    match asked {
        None => attempt
            .witness
            .failed(delivery, "no end of the answer within `limits.linger`"),
        Some(Err(error)) => return Err(error),
        Some(Ok(())) => drop(clock::within(CLOSING, connection).await),
    }
    Ok(())
}

async fn send(
    mut to: SendStream<Bytes>,
    mut body: Bytes,
    trailers: Option<HeaderMap>,
) -> Result<SendStream<Bytes>, h2::Error> {
    while !body.is_empty() {
        to.reserve_capacity(body.len());
        let room = match to.capacity() {
            0 => match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Ok(to),
            },
            room => room,
        };
        let part = body.split_to(room.min(body.len()));
        to.send_data(part, body.is_empty() && trailers.is_none())?;
    }
    if let Some(trailers) = trailers {
        to.send_trailers(trailers)?;
    }
    Ok(to)
}

/// Reads the answer to its end, and keeps it if it is wanted and not too long.
async fn read(
    attempt: &Attempt,
    delivery: u32,
    answer: ResponseFuture,
    wanted: bool,
) -> Result<Option<Whole>, h2::Error> {
    let (parts, mut from) = answer.await?.into_parts();
    let witness = &attempt.witness;
    witness.answered(delivery, Some(parts.status.as_u16()));
    let headers = parts.headers.iter();
    if replayed(headers.map(|(name, value)| (name.as_str(), value.as_bytes()))) {
        witness.replayed(delivery);
    }
    let mut body = Digester::default();
    let mut kept = Some(BytesMut::new()).filter(|_| wanted);
    while let Some(bytes) = poll_fn(|cx| from.poll_data(cx)).await {
        let bytes = bytes?;
        from.flow_control().release_capacity(bytes.len())?;
        body.update(&bytes);
        if kept
            .as_ref()
            .is_some_and(|kept| kept.len() + bytes.len() > MOST_KEPT)
        {
            kept = None;
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&bytes);
        }
    }
    let trailers = poll_fn(|cx| from.poll_trailers(cx)).await?;
    witness.answer_ended(delivery, &mut body);
    Ok(kept.map(|kept| Whole {
        head: Response::from_parts(parts, ()),
        body: kept.freeze(),
        trailers,
    }))
}
