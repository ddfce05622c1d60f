//! What ties a child to the drill: it ends when its standard input closes, whatever closed it.
//!
//! The kernel closes the pipe when the drill dies, by SIGKILL too. One child can't notice: one
//! that is stopped (`hang`). So the warden, which is never stopped, holds a pipe of its own and
//! knows who is stopped; when its pipe closes it wakes them, and each then finds its own pipe
//! closed. To wake a process that is not ours any more does no harm, which killing by number would.
//! On Linux the instances also ask the kernel to be killed with their parent, which works while
//! stopped; the warden is for the other systems, and the second pair of eyes on this one.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::thread;

use serde::{Deserialize, Serialize};

/// Exits with the pipe; until then each line goes to `obey`, and the last word to `farewell`.
///
/// Ends the process rather than a task: whatever else goes on, nobody wants it any more.
pub(crate) fn hold(
    mut obey: impl FnMut(&str) + Send + 'static,
    farewell: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            obey(&line);
        }
        farewell();
        std::process::exit(0);
    })?;
    Ok(())
}

/// Asks Linux to kill this process when the thread that started it ends.
///
/// The drill starts its children on its main thread, which lives as long as it does.
pub(crate) fn die_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        // The pipe is still there, and the warden.
        say(&format!("cannot be tied to the drill by the kernel: {error}"));
    }
}

/// One line to the drill, whole and at once.
pub(crate) fn tell(word: &Word) -> std::io::Result<()> {
    let mut line = serde_json::to_string(word)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// One line to people.
pub(crate) fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "outage: {line}");
}

/// What a child tells the drill.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// It listens on this port.
    Listening(u16),
    /// A call met a fault of this number here.
    Met { fault: usize, call: u64 },
}

/// What the drill tells the warden.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watch {
    Stopped(u32),
    Awake(u32),
}

/// The warden: a child that only waits.
pub(crate) fn warden() -> ExitCode {
    let mut stopped: Vec<u32> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Watch::Stopped(pid)) => stopped.push(pid),
            Ok(Watch::Awake(pid)) => stopped.retain(|other| *other != pid),
            Err(error) => say(&format!("the warden does not understand {line}: {error}")),
        }
    }
    for pid in stopped {
        // Nothing to do about one that is gone.
        let _ = signal(pid, rustix::process::Signal::CONT);
    }
    ExitCode::SUCCESS
}

/// Sends a signal to a process by its number.
///
/// The caller sees to it that the number still means the process: a child that was not waited for.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("there is no such process number"))?;
    Ok(rustix::process::kill_process(pid, signal)?)
}
