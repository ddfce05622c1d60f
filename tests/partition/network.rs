//! Instances on wires of their own: a network namespace and a veth pair for each, made with `ip`
//! and cut with `nft`. Nothing of the machine's own network is touched.

use std::{
    env, fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// What all our namespaces and wires are called, before their maker's process id.
const NAMESPACE: &str = "buttress-";

/// Ends what runs in the namespaces that it is given, and removes them and their wires: alone, a
/// wire would stay until the last connection of those who were cut off is given up.
const SWEEP: &str = r#"
for name; do
    id=${name#buttress-}
    ip link del "bt${id%-*}x${id#*-}"
    for pid in $(ip netns pids "$name"); do kill -9 "$pid"; done
    ip netns del "$name"
done
"#;

/// The number of the one that is made to see whether it can be.
const PROBE: u8 = u8::MAX;

/// For nft: nothing leaves.
const DROP_ANSWERS: &str = "add table inet cut; \
    add chain inet cut out { type filter hook output priority 0; policy drop; };";

/// What a cut wire lets through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Nothing.
    Both,
    /// What the instance is asked, not what it answers.
    Answers,
}

/// The namespaces. They are gone when this is dropped, and also when its process is killed: the
/// other end of the keeper's standard input is ours alone, and the system closes it.
#[derive(Debug)]
pub(crate) struct Network {
    /// The first three numbers of all addresses.
    subnet: [u8; 3],
    size: u8,
    keeper: Option<Child>,
}

impl Network {
    /// The namespaces and their wires, up. `None`, and a word of why, where there can't be any.
    pub(crate) fn build(size: u8) -> Option<Self> {
        if let Err(why) = possible() {
            // Not by `eprintln!`: of a test that passes, the harness would keep that for itself.
            let _ = writeln!(io::stderr(), "SKIPPED: no network namespaces here: {why}");
            return None;
        }
        remove(&stale());
        let mut network = Self { subnet: unused(), size, keeper: None };
        network.keeper = Some(network.keep());
        for instance in 0..size {
            let (name, wire) = (namespace(instance), wire(instance));
            let own = format!("{}/30", network.address_of(instance, 1));
            let peer = format!("{}/30", network.address(instance));
            ip(&format!("netns add {name}"));
            ip(&format!("link add {wire} type veth peer name eth0 netns {name}"));
            ip(&format!("address add {own} dev {wire}"));
            ip(&format!("-n {name} address add {peer} dev eth0"));
            ip(&format!("link set {wire} up"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        Some(network)
    }

    /// Where an instance is.
    pub(crate) const fn address(&self, instance: u8) -> Ipv4Addr {
        self.address_of(instance, 2)
    }

    /// What runs a program where an instance is; it has the process id that the program gets.
    pub(crate) fn command(&self, instance: u8, program: &Path) -> Command {
        assert!(instance < self.size, "there is no instance {instance}");
        let mut command = Command::new("ip");
        command.env("PATH", path()).args(["netns", "exec", &namespace(instance)]).arg(program);
        command
    }

    /// Drops the packets of an instance, without a word to anybody.
    pub(crate) fn cut(&self, instance: u8, cut: Cut) {
        let mut rules = DROP_ANSWERS.to_owned();
        if matches!(cut, Cut::Both) {
            rules += "add chain inet cut in { type filter hook input priority 0; policy drop; };";
        }
        self.nft(instance, &rules);
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self, instance: u8) {
        self.nft(instance, "delete table inet cut");
    }

    fn nft(&self, instance: u8, rules: &str) {
        run(self.command(instance, Path::new("nft")).arg(rules)).expect("nft takes the rules");
    }

    const fn address_of(&self, instance: u8, side: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, 4 * instance + side)
    }

    fn keep(&self) -> Child {
        let script = format!("trap '' HUP INT TERM\nread -r _\n{SWEEP}");
        Command::new("/bin/sh")
            .env("PATH", path())
            .args(["-c", &script, "sh"])
            .args((0..self.size).map(namespace))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

fn namespace(instance: u8) -> String {
    format!("{NAMESPACE}{}-{instance}", std::process::id())
}

/// As the sweep derives it from the namespace. Names of devices have fifteen characters at most.
fn wire(instance: u8) -> String {
    format!("bt{}x{instance}", std::process::id())
}

/// Whether there can be namespaces, and rules in them: only the superuser may make them, and not
/// in every container. Programs that are missing where there can be fail the test where servers
/// are required.
fn possible() -> Result<(), String> {
    // The second number is the effective user.
    let root = fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("Uid:") && line.split('\t').nth(2) == Some("0"))
    });
    if !root {
        return Err("only root may make them".into());
    }
    for program in ["ip", "nft"] {
        if let Err(error) = run(Command::new(program).arg("-V")) {
            let required =
                env::var_os("BUTTRESS_REQUIRE_SERVERS").is_some_and(|value| value == "1");
            assert!(!required, "{error}: `bash .ci/run servers` installs it");
            return Err(format!("{error} (`bash .ci/run servers` installs it)"));
        }
    }
    let name = namespace(PROBE);
    let probed = try_ip(&format!("netns add {name}"))
        .and_then(|()| {
            try_ip(&format!("link add {} type veth peer name eth0 netns {name}", wire(PROBE)))
        })
        .and_then(|()| {
            let mut nft = Command::new("ip");
            run(nft.args(["netns", "exec", &name, "nft", DROP_ANSWERS])).map(drop)
        });
    remove(&[name]);
    probed
}

/// The namespaces of processes that are no more.
fn stale() -> Vec<String> {
    let listed = run(Command::new("ip").args(["netns", "list"])).expect("ip lists namespaces");
    let listed = String::from_utf8_lossy(&listed.stdout);
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let dead = names.filter(|name| {
        let pid = name.strip_prefix(NAMESPACE).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists())
    });
    dead.map(str::to_owned).collect()
}

fn remove(names: &[String]) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SWEEP, "sh"]).args(names).stdin(Stdio::null());
    // Another one may sweep at the same time.
    let _ = run(&mut shell);
}

/// A private subnet of 256 addresses to which this machine has no way of its own.
fn unused() -> [u8; 3] {
    let routes = run(Command::new("ip").args(["-4", "route", "show", "table", "all"]));
    let routes = String::from_utf8_lossy(&routes.expect("ip lists routes").stdout).into_owned();
    let taken: Vec<(u32, u32)> = routes.split_whitespace().filter_map(network_of).collect();
    let free = |[a, b, c]: [u8; 3]| {
        let ours = u32::from_be_bytes([a, b, c, 0]);
        taken.iter().all(|(network, mask)| {
            let mask = mask & 0xffff_ff00;
            network & mask != ours & mask
        })
    };
    // Elsewhere for each process, since others may look for one at the same time.
    let first = std::process::id();
    let candidates = (0..1 << 15).map(|next| {
        let [.., b, c] = (first.wrapping_add(next) | 0x8000).to_be_bytes();
        [10, b, c]
    });
    candidates.into_iter().find(|subnet| free(*subnet)).expect("not all of 10.128.0.0/9 is used")
}

/// An address, with the length of its prefix or without, as `ip` writes them.
fn network_of(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let (address, length) = (address.parse::<Ipv4Addr>().ok()?, length.parse::<u32>().ok()?);
    Some((address.to_bits(), u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0)))
}

fn ip(arguments: &str) {
    try_ip(arguments).expect("ip does as it did for the probe");
}

fn try_ip(arguments: &str) -> Result<(), String> {
    run(Command::new("ip").args(arguments.split(' '))).map(drop)
}

/// Runs a program to its end; what it says of a failure is the error.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.env("PATH", path()).stdin(Stdio::null()).output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(output),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(std::ffi::OsStr::to_string_lossy).collect();
    Err(format!("`{}`: {why}", words.join(" ")))
}

/// Where `ip` and `nft` are, which is in the paths of root, but not always of who became root.
fn path() -> String {
    env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}
