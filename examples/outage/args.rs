//! What the drill can be told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "\
A small company on this machine, and what its callers notice when it falls ill.

Five instances of `payments` and a `ledger` are started as processes of their
own on loopback. Calls are sent to them through three clients in turn, on the
same scenario and seed; each client begins with new processes and an empty
ledger. Arrivals don't wait for answers, and a call's latency counts from the
moment it was due.";

const SCENARIO: &str = "\
A scenario is a TOML file:

  name = \"two dead, one slow\"
  seconds = 30
  rate = 200               # calls per second, arriving at random
  instances = 5
  work = \"5ms\"             # what a charge takes on average, optional
  [[load]]                 # changes of rate, optional
  at = \"10s\"
  rate = 400
  [[fault]]
  kind = \"slow\"
  at = \"3s\"
  for = \"6s\"               # durations are written \"400ms\" or \"3s\"
  target = \"payments/2\"    # or \"payments/*\", or \"payments/2 of 5\" (two drawn)
  latency = \"400ms\"
  jitter = \"100ms\"         # both ways, optional

Kinds of faults, and what they need besides at, for and target:

  kill                          SIGKILL; back on a new port, until then the
                                list names the dead address
  hang                          SIGSTOP, then SIGCONT
  refuse                        listener and connections closed, then open again
                                on the same port
  slow         latency, jitter, the work begins late
               share
  fail         status, share    that status, without the work
  sink                          503 at once; the health check still says 200
  overload     retry_after,     429 with Retry-After, without the work
               share
  lose_answer  share            the work is done, then the connection is cut
  stall_body   share            the work is done, the head comes, then silence
  leave, join                   only the list changes; `for` may be left out,
                                who joins first is not on the list before

A `share` is of attempts, above 0 and up to 1, and 1 when it is left out.
What is counted, and how: examples/outage/README.md";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "outage",
    about = ABOUT,
    after_help = SCENARIO,
    override_usage = "outage [OPTIONS]",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What people set.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// bare, tower, buttress or all [default: all]
    #[arg(long, value_enum, default_value = "all", hide_possible_values = true)]
    #[arg(hide_default_value = true, value_name = "WHO")]
    pub(crate) client: Who,
    /// What to play, instead of the 30 s that come with it
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Calls per second; the scenario's changes of rate follow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) rate: Option<u32>,
    /// How long; what would begin later is left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: Option<u64>,
    /// Of arrivals, drawn targets and shares
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// HTTP/1.1, or HTTP/2 with prior knowledge [default: 1]
    #[arg(long, value_enum, default_value = "1", hide_possible_values = true)]
    #[arg(hide_default_value = true, value_name = "1|2")]
    pub(crate) http: Http,
    /// buttress races an attempt that is slow with another
    #[arg(long)]
    pub(crate) hedge: bool,
    /// Show in a browser what buttress knows; 0 is any port
    #[arg(long, value_name = "PORT")]
    pub(crate) page: Option<u16>,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The roles in which the drill starts itself again.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Ledger {
        #[arg(long)]
        folder: PathBuf,
    },
    #[command(hide = true)]
    Payments {
        #[arg(long)]
        instance: usize,
        #[arg(long)]
        seed: u64,
        /// In microseconds.
        #[arg(long)]
        work: u64,
        #[arg(long, value_enum)]
        http: Http,
        #[arg(long)]
        ledger: SocketAddr,
    },
    #[command(hide = true)]
    Warden,
    /// Print a scenario drawn from a seed
    #[command(hide = true)]
    Random {
        #[arg(long)]
        seed: u64,
    },
}

/// One client, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    Bare,
    Tower,
    Buttress,
    All,
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientName {
    Bare,
    Tower,
    Buttress,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Http {
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
}

impl Who {
    /// The clients, in the order in which they are played.
    pub(crate) fn names(self) -> Vec<ClientName> {
        match self {
            Self::Bare => vec![ClientName::Bare],
            Self::Tower => vec![ClientName::Tower],
            Self::Buttress => vec![ClientName::Buttress],
            Self::All => vec![ClientName::Bare, ClientName::Tower, ClientName::Buttress],
        }
    }
}

impl ClientName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Tower => "tower",
            Self::Buttress => "buttress",
        }
    }
}

impl Http {
    /// As people write it.
    pub(crate) fn spoken(self) -> &'static str {
        match self {
            Self::One => "HTTP/1.1",
            Self::Two => "HTTP/2",
        }
    }
}

impl fmt::Display for Http {
    /// As the option is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1",
            Self::Two => "2",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        match Cli::try_parse_from([&["outage"], args].concat()) {
            Ok(cli) => format!("accepted: {cli:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn has_the_options_it_should() {
        let args = [
            "outage",
            "--client",
            "tower",
            "--rate",
            "50",
            "--seconds",
            "3",
            "--seed",
            "9",
            "--http",
            "2",
            "--hedge",
            "--json",
            "x.json",
            "--scenario",
            "y.toml",
        ];
        let options = Cli::try_parse_from(args).expect("these are the options").options;
        assert_eq!((options.client, options.http), (Who::Tower, Http::Two));
        assert_eq!((options.rate, options.seconds, options.seed), (Some(50), Some(3), 9));
        assert!(options.hedge);
        let plain = Cli::try_parse_from(["outage"]).expect("none is needed").options;
        assert_eq!((plain.client, plain.http), (Who::All, Http::One));
        assert!(!plain.hedge, "the numbers of all drills are comparable");
    }

    #[test]
    fn refuses_with_what_would_be_right() {
        assert!(
            refusal(&["--client", "curl"]).contains("possible values: bare, tower, buttress, all")
        );
        assert!(refusal(&["--http", "3"]).contains("possible values: 1, 2"));
        assert!(refusal(&["--rate", "0"]).contains("0 is not in 1..=20000"));
        assert!(refusal(&["--seconds", "x"]).contains("invalid digit"));
        assert!(refusal(&["--sede", "1"]).contains("'--seed'"));
        assert!(refusal(&["now"]).contains("'now'"));
    }

    #[test]
    fn help_fits_the_terminal_and_hides_the_roles() {
        let help = refusal(&["--help"]);
        assert!(!help.contains("warden"), "{help}");
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= 80, "a line of {widest} columns in\n{help}");
    }
}
