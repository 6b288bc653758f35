use super::figures::Smooth;
use super::sample::{Counters, Device, Export, Job, Node};
use super::*;
use crate::getopt::{
    self,
    tests::{each_flag_changes_the_settings, names_are_unique},
};

fn sample(second: u64) -> Sample {
    let counters = Counters {
        read_bytes: second << 20,
        written_bytes: second << 21,
        reads: second * 10,
        writes: second * 20,
        read_ns: second * 10 * 2_000_000,
        ..Counters::default()
    };
    Sample {
        at_ns: second * 1_000_000_000,
        server: "QEMU 10.0.2".to_owned(),
        devices: vec![Device { name: "d0".into(), node: "disk".into(), counters, ..Device::default() }],
        nodes: vec![
            Node { name: "disk".into(), driver: "x".into(), size: 64 << 20, counters, ..Node::default() },
            Node { name: "still".into(), file: "a\u{1b}b".into(), ..Node::default() },
        ],
        exports: vec![Export { id: "e0".into(), node: "disk".into(), ..Export::default() }],
        jobs: vec![Job {
            id: "j0".into(),
            status: "running".into(),
            done: second << 20,
            all: 64 << 20,
            ..Job::default()
        }],
    }
}

fn figures() -> Figures {
    Figures::between(&sample(2), &sample(4), &mut Smooth::default())
}

#[test]
fn rates_are_what_changed_over_the_time_that_passed() {
    let figures = figures();
    let rates = figures.devices.first().unwrap().rates.unwrap();
    assert_eq!((rates.read, rates.written), (f64::from(1 << 20), f64::from(1 << 21)));
    assert_eq!((rates.reads, rates.writes, rates.flushes), (10.0, 20.0, 0.0));
    assert_eq!((rates.read_time, rates.write_time), (Some(0.002), Some(0.0)));
    assert_eq!(figures.nodes.get(1).unwrap().rates, None, "nothing was ever counted");
    assert_eq!(figures.exports.first().unwrap().1, Some(rates), "an export has those of its node");
    let job = figures.jobs.first().unwrap();
    assert_eq!((job.rate, job.left), (f64::from(1 << 20), Some(60.0)));
}

#[test]
fn what_is_new_or_counts_from_zero_again_has_rates_of_zero() {
    let rates = |before: &Sample, now: &Sample| {
        Figures::between(before, now, &mut Smooth::default()).nodes.first().unwrap().rates.unwrap()
    };
    assert_eq!(rates(&Sample::default(), &sample(4)).read, 0.0);
    assert_eq!(rates(&Sample { at_ns: 0, ..sample(9) }, &sample(4)).read, 0.0);
}

#[test]
fn a_job_that_stands_still_has_no_time_left_and_its_rate_falls_slowly() {
    let mut smooth = Smooth::default();
    Figures::between(&sample(0), &sample(1), &mut smooth);
    let mut still = sample(2);
    still.jobs.iter_mut().for_each(|job| job.done = 1 << 20);
    let figures = Figures::between(&sample(1), &still, &mut smooth);
    let job = figures.jobs.first().unwrap();
    assert!(job.rate > 0.0 && job.rate < f64::from(1 << 20));
    still.jobs.iter_mut().for_each(|job| job.status = "paused".to_owned());
    assert_eq!(Figures::between(&sample(1), &still, &mut smooth).jobs.first().unwrap().left, None);
}

#[test]
fn the_view_has_a_table_for_each_sort_and_no_control_characters() {
    let lines = view::lines(&figures());
    let text: Vec<_> = lines.iter().map(view::plain).collect();
    let headings: Vec<_> = lines.iter().filter(|line| line.heading).map(view::plain).collect();
    assert_eq!(headings.len(), 4, "{text:#?}");
    assert!(text.iter().any(|line| line.starts_with("j0") && line.ends_with("1:00")), "{text:#?}");
    assert!(text.iter().any(|line| line.contains("a?b")), "{text:#?}");
    assert!(text.iter().any(|line| line.contains("1 MiB/s") && line.contains("2.0 ms")), "{text:#?}");
}

#[test]
fn a_screen_is_never_larger_than_the_terminal() {
    let lines = view::lines(&figures());
    for size in [(20, 1), (20, 2), (1, 5), (200, 100), (80, 24), (0, 0)] {
        for first in [0, 3, 1000] {
            let screen = view::screen("title", &lines, first, size);
            assert!(screen.len() <= size.1.max(1), "{size:?}");
            let width =
                |line: &String| line.split_once('m').map_or(line.as_str(), |(_, text)| text).chars().count();
            let styled = screen.iter().filter(|line| line.starts_with('\u{1b}'));
            assert!(styled.map(width).all(|width| width <= size.0), "{size:?} {screen:#?}");
        }
    }
}

#[test]
fn a_look_is_an_object_with_numbers() {
    let object = figures().object();
    let job = object.get("jobs").and_then(|jobs| jobs.as_list()).and_then(|jobs| jobs.first()).unwrap();
    assert_eq!(job.get("left"), Some(&api::Value::Float(60.0)));
    assert_eq!(job.get("total-progress").and_then(api::Value::as_i64), Some(64 << 20));
}

#[test]
fn times_left_are_told_as_people_do() {
    for (seconds, want) in [(0.0, "0:00"), (59.6, "1:00"), (3723.0, "1:02:03"), (400_000.0, "4 days")] {
        assert_eq!(view::time_left(seconds), want);
    }
    assert_eq!(view::time_left(f64::INFINITY), "11574074 days");
}

#[test]
fn each_flag_changes_the_settings_of_a_look() {
    names_are_unique(FLAGS);
    each_flag_changes_the_settings(FLAGS, Settings::default, &[("-i", "2.5"), ("-n", "3")], &[]);
    for (flag, wrong) in [("-i", "0"), ("-i", "nan"), ("-n", "0"), ("-n", "x")] {
        let args = [flag.to_owned(), wrong.to_owned()];
        assert!(
            getopt::read(FLAGS, &args, Operands::Anywhere, Settings::default()).is_err(),
            "{flag} {wrong}"
        );
    }
}
