//! The storage daemon with nothing around it: `daemon --blockdev … --chardev … --monitor …`.
use monitor::daemon::{DaemonOption, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut options = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        options.push(match flag.as_str() {
            "--blockdev" => DaemonOption::Blockdev(value()),
            "--chardev" => DaemonOption::Chardev(value()),
            "--export" => DaemonOption::Export(value()),
            "--monitor" => DaemonOption::Monitor(value()),
            "--nbd-server" => DaemonOption::NbdServer(value()),
            "--object" => DaemonOption::Object(value()),
            "--pidfile" => DaemonOption::Pidfile(value().into()),
            "--daemonize" => DaemonOption::Daemonize,
            other => {
                eprintln!("daemon: unknown option '{other}'");
                return ExitCode::FAILURE;
            }
        });
    }
    run("daemon", block::Registry::new(&[formats::DRIVERS, filters::DRIVERS, protocols::DRIVERS]), &options)
}
