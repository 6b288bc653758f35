//! The channel of test programs that would drive a machine's clock and ports: each command is answered, none has an effect.
//! Time goes on by itself here, and there are no ports. Standard error tells when the channel is there, and at the end of the program.

use api::QmpError;
use rt::BoxFuture;
use rt::net::Stream;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Tells of the channel on standard error, as test programs know it.
pub struct Log(Instant);

impl Log {
    /// The channel is there.
    pub fn open() -> Log {
        // Where standard error fails there is nobody to tell.
        let _ = writeln!(io::stderr(), "[I 0.000000] OPENED");
        Log(Instant::now())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = writeln!(io::stderr(), "[I +{:.6}] CLOSED", self.0.elapsed().as_secs_f64());
    }
}

/// Connects to `unix:PATH`, and answers what comes from there as long as the program lives.
pub async fn connect(place: &str) -> Result<(), QmpError> {
    let place = place.split(',').next().unwrap_or_default();
    let Some(path) = place.strip_prefix("unix:") else { return Ok(()) };
    let connected = Stream::connect_unix(Path::new(path)).await;
    let stream =
        connected.map_err(|error| QmpError::generic(format!("Failed to connect to '{path}': {error}")))?;
    let stream = Arc::new(stream);
    rt::spawn(serve(stream.clone(), stream)).detach();
    Ok(())
}

/// Answers what comes.
pub fn serve(input: Arc<Stream>, output: Arc<Stream>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if let Err(error) = answer(&input, &output).await {
            tracing::debug!(%error, "the connection to a test ended");
        }
    })
}

async fn answer(input: &Stream, output: &Stream) -> io::Result<()> {
    let mut bytes = [0; 512];
    loop {
        let n = input.recv(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        for _ in bytes.iter().take(n).filter(|byte| **byte == b'\n') {
            output.send_all(format!("OK {}\n", rt::now_ns()).as_bytes()).await?;
        }
    }
}
