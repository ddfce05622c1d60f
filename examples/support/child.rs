//! A program as a child: told by its arguments, heard line by line, killed or ended.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    path::Path,
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use buttress::BoxError;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a child may take to say what is waited for, or to end. Far above what it needs, on a
/// busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child. It ends at the latest when its standard input closes, by whatever end of this one.
#[derive(Debug)]
pub struct Child {
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a program that calls [`end_with_parent`].
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn start<A: AsRef<OsStr>>(program: &Path, args: &[A]) -> Result<Self, BoxError> {
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or("a child has one standard output")?;
        Ok(Self { process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// Waits for a line that begins with `word`, and gives what follows.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes too long.
    pub async fn says(&mut self, word: &str) -> Result<String, BoxError> {
        let heard = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            Err::<_, BoxError>(format!("the child ended before it said {word:?}").into())
        };
        timeout(PATIENCE, heard).await.map_err(|_| format!("the child does not say {word:?}"))?
    }

    /// Kills it (SIGKILL where there are signals), and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If the system does not let us.
    pub async fn kill(mut self) -> io::Result<()> {
        self.process.kill().await
    }

    /// Closes its standard input, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub async fn end(mut self) -> Result<ExitStatus, BoxError> {
        self.stdin = None;
        let ended = timeout(PATIENCE, self.process.wait()).await;
        Ok(ended.map_err(|_| "the child does not end")??)
    }
}

/// In the child: ends it when its standard input closes.
///
/// # Errors
///
/// If no thread can be started.
pub fn end_with_parent() -> io::Result<()> {
    thread::Builder::new().name("lifeline".to_owned()).spawn(|| {
        // Nothing is said to it; this ends with the pipe.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    })?;
    Ok(())
}

/// In the child: one line to the parent, whole and at once.
///
/// # Errors
///
/// If nobody listens any more.
pub fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
