//! A server that is a program of its own.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Says that a test was skipped, or fails it where servers are required.
pub(crate) fn missing(what: &str) {
    let required = env::var_os("BUTTRESS_REQUIRE_SERVERS").is_some_and(|value| value == "1");
    assert!(!required, "{what} is missing: `bash .ci/run servers` puts it into target/servers");
    // Not by `eprintln!`: of a test that passes, the harness would keep that for itself.
    let said = "is missing; `bash .ci/run servers` puts it into target/servers";
    let _ = writeln!(io::stderr(), "SKIPPED: {what} {said}");
}

/// The program, where `.ci/run servers` put it or else where the system has it. Without it,
/// [`missing`].
pub(crate) fn find(name: &str, installed: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers").join(installed);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = [own].into_iter().chain(folders.map(|folder| folder.join(name)));
    let found = found.into_iter().find(|program| program.is_file());
    if found.is_none() {
        missing(name);
    }
    found
}

/// A program that runs as long as this is held, and not longer: not even if the test's process
/// dies at once.
#[derive(Debug)]
pub(crate) struct Process {
    shell: Child,
}

/// Between the test and its server stands a shell that waits for the end of its standard input:
/// the only other end is the test's, and the system closes it, whatever the test died of.
const KEEPER: &str = r#"
"$@" </dev/null & server=$!
exec >&-
read -r _
exec 2>/dev/null
kill "$server"
wait "$server"
"#;

/// The same for a server that is given a socket to listen on, as descriptor 3.
const LISTENING_KEEPER: &str = r#"
exec 3>&1 >/dev/null
NGINX='3;' "$@" </dev/null & server=$!
exec 3>&-
read -r _
exec 2>/dev/null
kill "$server"
wait "$server"
"#;

impl Process {
    /// Starts a program that listens on a port of the system's choice and prints it.
    pub(crate) fn saying_its_port<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> (Self, u16) {
        let mut command = keeper(KEEPER, program, arguments);
        let mut shell = command.stdout(Stdio::piped()).spawn().expect("there is a shell");
        let output = BufReader::new(shell.stdout.take().expect("it is piped"));
        let process = Self { shell };
        let line = output.lines().next().expect("it says its port").expect("text");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is no port"));
        (process, port)
    }

    /// Starts a program that says nothing to us; whether it is up is to be asked of it.
    #[allow(dead_code, reason = "not every test that has servers has one like that")]
    pub(crate) fn silent<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> Self {
        let mut command = keeper(KEEPER, program, arguments);
        let shell = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { shell: shell.expect("there is a shell") }
    }

    /// Starts nginx on a socket that listens already, so that nobody else can get its port in
    /// between. nginx takes over sockets named in `NGINX` when its program is replaced.
    pub(crate) fn listening<A>(program: &Path, arguments: &[A], socket: OwnedFd) -> Self
    where
        A: AsRef<OsStr>,
    {
        let mut command = keeper(LISTENING_KEEPER, program, arguments);
        // The one way to hand a descriptor down without unsafe code.
        let shell = command.stdout(Stdio::from(socket)).spawn().expect("there is a shell");
        Self { shell }
    }
}

fn keeper<A: AsRef<OsStr>>(script: &str, program: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(program).args(arguments).stdin(Stdio::piped());
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It has seen the server's end.
        let _ = self.shell.wait();
    }
}
