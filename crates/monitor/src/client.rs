//! One client: bytes in, requests served in order, answers and events out.
//!
//! ```text
//! bytes ─▶ session ─┬─ answered before more is read ───────────────────────────────▶ outbox
//!                   └─ of a client with urgent commands: those at once, others ─▶ queue ─▶
//! ```
use crate::control::Control;
use crate::outbox::Outbox;
use crate::session::{Incoming, Request, Session};
use crate::wire::MessageLayout;
use api::QmpError;
use futures_channel::mpsc;
use futures_util::future::{Either, join, select};
use futures_util::{FutureExt, StreamExt};
use rt::net::Stream;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tracing::Instrument;

/// Bytes received from the client at a time.
const INPUT: usize = 16 << 10;

/// Requests of a client with urgent commands that wait for those before them. When there are more, nothing is read.
const WAITING: usize = 8;

/// The command whose answer ends the session.
const QUIT: &str = "quit";

/// Serves one QMP session until its client has left or is disconnected. `input` and `output` may be the same stream.
pub async fn serve(control: Control, input: Arc<Stream>, output: Arc<Stream>, layout: MessageLayout) {
    let control = control.for_session();
    let outbox = Arc::new(Outbox::new(layout));
    let peer = input.peer_label();
    control.join(&outbox);
    outbox.answer(&layout.greeting()).await;
    let writer = rt::spawn(write(outbox.clone(), output));
    let gone = {
        let (queue, waiting) = mpsc::channel(WAITING - 1);
        let reading = join(read(&control, &outbox, &input, queue), work_off(&control, &outbox, waiting));
        match select(pin!(reading.map(|(read, ())| read)), pin!(outbox.gone())).await {
            Either::Left((Ok(()), _)) => false,
            Either::Left((Err(e), _)) => {
                tracing::debug!(%peer, error = %e, "a QMP client's connection failed");
                true
            }
            Either::Right(_) => {
                tracing::warn!(%peer, "a QMP client that does not read is disconnected");
                true
            }
        }
    };
    if gone {
        outbox.give_up();
    } else {
        outbox.end();
    }
    if let Err(e) = writer.await {
        tracing::debug!(%peer, error = %e, "the writer of a QMP client ended early");
    }
}

async fn write(outbox: Arc<Outbox>, output: Arc<Stream>) {
    while let Some(text) = outbox.next().await {
        let (sending, gone) = (pin!(output.send_all(&text)), pin!(outbox.gone()));
        match select(sending, gone).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(e), _)) => {
                tracing::debug!(error = %e, "nothing can be sent to a QMP client any more");
                outbox.give_up();
            }
            Either::Right(_) => {}
        }
    }
    // A stream that is shut down already needs nothing.
    let _ = output.shutdown();
}

async fn read(
    control: &Control,
    outbox: &Arc<Outbox>,
    input: &Stream,
    mut queue: mpsc::Sender<Incoming>,
) -> io::Result<()> {
    // Urgent commands have nothing to do with what the session's others have got or are about to tell.
    let (mut session, urgent) = (Session::new(), control.for_session());
    let (mut buffer, mut descriptors) = (vec![0; INPUT], Vec::new());
    loop {
        let n = input.recv_with_descriptors(&mut buffer, &mut descriptors).await?;
        control.descriptors().receive(descriptors.drain(..));
        if n == 0 {
            return Ok(());
        }
        let mut bytes = buffer.get(..n).unwrap_or_default();
        while let Some(incoming) = session.next(&mut bytes) {
            if session.is_negotiated() {
                outbox.listen_to_events();
            }
            match incoming {
                Incoming::Request(request) if request.is_urgent => run(&urgent, outbox, request).await,
                incoming if session.is_out_of_band() => {
                    // It is received from as long as this runs.
                    let room = poll_fn(|cx| queue.poll_ready(cx)).await;
                    room.and_then(|()| queue.start_send(incoming)).unwrap_or_default();
                }
                incoming => work(control, outbox, incoming).await,
            }
        }
    }
}

async fn work_off(control: &Control, outbox: &Arc<Outbox>, mut queue: mpsc::Receiver<Incoming>) {
    while let Some(incoming) = queue.next().await {
        work(control, outbox, incoming).await;
    }
}

/// Carries out a request, and answers it.
async fn work(control: &Control, outbox: &Arc<Outbox>, incoming: Incoming) {
    match incoming {
        Incoming::Answer { id, result } => outbox.answer(&outbox.layout().answer(id, result)).await,
        Incoming::Request(request) => {
            let quits = request.command == QUIT;
            run(control, outbox, request).await;
            if quits && control.has_ended() {
                control.leave();
            }
        }
    }
}

/// Runs a command as a task of its own: it is carried through also when this client leaves meanwhile. The task sends the
/// answer too, without waiting in between: events of what the command has started come after it.
async fn run(control: &Control, outbox: &Arc<Outbox>, request: Request) {
    let Request { id, command, arguments, is_urgent } = request;
    let span = tracing::debug_span!("qmp", command);
    let (control, answers, its) = (control.clone(), outbox.clone(), id.clone());
    let run = async move {
        // Urgent ones are for when something does not end, which may be the program.
        let admitted = if is_urgent { Ok(()) } else { control.admit() };
        let result = match admitted {
            Ok(()) => control.execute(&command, arguments).await,
            Err(e) => Err(e),
        };
        if let Some(result) = result.transpose() {
            answers.answer(&answers.layout().answer(its, result)).await;
        }
        control.answered();
    };
    if let Err(e) = rt::spawn(run.instrument(span)).await {
        let error = QmpError::generic(format!("the command failed by a defect of this program: {e}"));
        outbox.answer(&outbox.layout().answer(id, Err(error))).await;
    }
}
