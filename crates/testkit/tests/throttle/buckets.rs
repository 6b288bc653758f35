//! A group by itself: what it lets through, and when.
use block::{IoDirection, IoLimits, Rate, ThrottleGroup, ThrottleMember};
use parking_lot::Mutex;
use sim::{Rng, Sim};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

fn group(limits: IoLimits) -> Arc<ThrottleGroup> {
    let group = Arc::new(ThrottleGroup::new("g"));
    group.set_limits(limits).unwrap();
    group
}

fn rate(average: i64, burst: i64, burst_seconds: i64) -> Rate {
    Rate { average, burst, burst_seconds }
}

fn of_requests(rate: Rate) -> IoLimits {
    let mut limits = IoLimits::default();
    limits.requests.total = rate;
    limits
}

/// Sends requests of `bytes` one after the other until `end`, in as many tasks as `depth`; counts them.
fn load(
    group: &Arc<ThrottleGroup>,
    direction: IoDirection,
    depth: usize,
    bytes: u64,
    end: u64,
) -> Arc<AtomicU64> {
    let (member, count) = (Arc::new(ThrottleMember::new(group.clone())), Arc::new(AtomicU64::new(0)));
    for _ in 0..depth {
        let (member, count) = (member.clone(), count.clone());
        rt::spawn(async move {
            loop {
                member.admit(direction, bytes).await;
                if rt::now_ns() >= end {
                    return;
                }
                count.fetch_add(1, SeqCst);
            }
        })
        .detach();
    }
    count
}

async fn until(end: u64) {
    rt::sleep(Duration::from_nanos(end.saturating_sub(rt::now_ns()) + SECOND)).await;
}

/// When each of the requests that come one after the other goes through, by the plainest account there is: the first time at
/// which what has leaked since the beginning covers what is above the brim.
struct Model {
    limits: Vec<(Rate, bool)>,
    request_size: u64,
    levels: Vec<[f64; 2]>,
    at: f64,
}

impl Model {
    fn new(limits: &IoLimits, direction: IoDirection) -> Model {
        let mut all = Vec::new();
        for (rates, bytes) in [(limits.bytes, true), (limits.requests, false)] {
            let own = if direction == IoDirection::Read { rates.read } else { rates.write };
            all.extend(
                [rates.total, own].into_iter().filter(|rate| rate.average > 0).map(|rate| (rate, bytes)),
            );
        }
        let levels = vec![[0.0; 2]; all.len()];
        Model { limits: all, request_size: limits.request_size as u64, levels, at: 0.0 }
    }

    /// Seconds at which a request that comes at `at` goes through.
    fn through(&mut self, at: f64, bytes: u64) -> f64 {
        let passed = at.max(self.at) - self.at;
        self.at += passed;
        let mut wait = 0.0f64;
        for ((rate, _), levels) in self.limits.iter().zip(&mut self.levels) {
            let (average, burst) = (rate.average as f64, rate.burst as f64);
            let brim = if rate.burst == 0 { average / 10.0 } else { burst * rate.burst_seconds as f64 };
            levels[0] = (levels[0] - passed * average).max(0.0);
            levels[1] = (levels[1] - passed * burst).max(0.0);
            wait = wait.max((levels[0] - brim) / average);
            if rate.burst_seconds > 1 {
                wait = wait.max((levels[1] - burst / 10.0) / burst);
            }
        }
        self.at += wait;
        for ((rate, of_bytes), levels) in self.limits.iter().zip(&mut self.levels) {
            let requests = if self.request_size > 0 { bytes as f64 / self.request_size as f64 } else { 1.0 };
            let amount = if *of_bytes { bytes as f64 } else { requests.max(1.0) };
            levels[0] = (levels[0] - wait * rate.average as f64).max(0.0) + amount;
            levels[1] = (levels[1] - wait * rate.burst as f64).max(0.0) + amount;
        }
        self.at
    }
}

fn any_rate(rng: &mut Rng) -> Rate {
    let average = [0, 1 + rng.below(50) as i64, 1 + rng.below(5_000_000) as i64][rng.below(3) as usize];
    if average == 0 || rng.below(2) == 0 {
        return rate(average, 0, 1);
    }
    rate(average, average + rng.below(4 * average as u64) as i64, 1 + rng.below(5) as i64)
}

#[test]
fn requests_go_through_when_the_plainest_account_says_so() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let direction = [IoDirection::Read, IoDirection::Write][rng.below(2) as usize];
        let mut limits = IoLimits::default();
        for rates in [&mut limits.bytes, &mut limits.requests] {
            if rng.below(2) == 0 {
                rates.total = any_rate(&mut rng);
            } else {
                (rates.read, rates.write) = (any_rate(&mut rng), any_rate(&mut rng));
            }
        }
        if limits.requests != IoLimits::default().requests && rng.below(2) == 0 {
            limits.request_size = 512 << rng.below(5);
        }
        Sim::new(seed).run(async move {
            if limits.check().is_err() {
                return;
            }
            let member = ThrottleMember::new(group(limits));
            let (start, mut model) = (rt::now_ns(), Model::new(&limits, direction));
            for _ in 0..60 {
                rt::sleep(Duration::from_micros(
                    [0, rng.below(30_000), rng.below(2_000_000)][rng.below(3) as usize],
                ))
                .await;
                let bytes = 512 * (1 + rng.below(200));
                let came = (rt::now_ns() - start) as f64 / SECOND as f64;
                member.admit(direction, bytes).await;
                let (is, should) =
                    ((rt::now_ns() - start) as f64 / SECOND as f64, model.through(came, bytes));
                let off = (is - should).abs();
                assert!(off < 1e-6 * should.max(1.0), "seed {seed}: at {is} instead of {should}, {limits:?}");
            }
        });
    }
}

#[test]
fn under_load_the_limit_is_exact_over_seconds_for_requests_and_bytes() {
    for (depth, members) in [(1, 1), (1, 3), (8, 1), (8, 4)] {
        Sim::new(1).run(async move {
            let end = rt::now_ns() + 20 * SECOND;
            let mut limits = of_requests(rate(250, 0, 1));
            limits.bytes.write = rate(1_000_000, 0, 1);
            let group = group(limits);
            // Bytes limit the writes: 122 requests of 8 KiB a second; what is left of 250 are reads.
            let of = |direction| -> Vec<_> {
                (0..members).map(|_| load(&group, direction, depth, 8192, end)).collect()
            };
            let (writes, reads) = (of(IoDirection::Write), of(IoDirection::Read));
            until(end).await;
            let sum = |counts: &[Arc<AtomicU64>]| counts.iter().map(|count| count.load(SeqCst)).sum::<u64>();
            let (writes, reads) = (sum(&writes), sum(&reads));
            let near = |is: u64, should: u64| is.abs_diff(should) <= should / 50 + 2;
            assert!(near(writes + reads, 250 * 20 + 25), "{writes} + {reads}");
            assert!(near(writes, 20_000_000 / 8192 + 12), "{writes}");
        });
    }
}

#[test]
fn a_burst_is_as_high_and_as_long_as_it_may_be() {
    Sim::new(1).run(async {
        let start = rt::now_ns();
        let count =
            load(&group(of_requests(rate(100, 1000, 5))), IoDirection::Read, 16, 512, start + 30 * SECOND);
        let mut seen = Vec::new();
        for second in 1..=20 {
            rt::sleep(Duration::from_nanos(start + second * SECOND - rt::now_ns())).await;
            seen.push(count.load(SeqCst));
        }
        // 1000 a second; 100 of each second leak, so that 5 × 1000 last for 5.5 s; then 100 a second.
        let should = |second: u64| (1000 * second + 100).min(5000 + 100 * second);
        for (second, seen) in (1..).zip(seen) {
            assert!(seen.abs_diff(should(second)) <= 2, "{seen} of {} after {second} s", should(second));
        }
    });
}

#[test]
fn members_take_turns_however_many_requests_each_has() {
    Sim::new(3).run(async {
        let end = rt::now_ns() + 30 * SECOND;
        let group = group(of_requests(rate(100, 0, 1)));
        let counts = [1, 16, 3, 64].map(|depth| load(&group, IoDirection::Write, depth, 4096, end));
        until(end).await;
        let counts = counts.map(|count| count.load(SeqCst));
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 12, "{counts:?}");
        assert!(counts.iter().sum::<u64>().abs_diff(3010) <= 2, "{counts:?}");
    });
}

#[test]
fn reads_and_writes_that_share_a_limit_both_go_on() {
    Sim::new(4).run(async {
        let end = rt::now_ns() + 20 * SECOND;
        let group = group(of_requests(rate(50, 0, 1)));
        let [reads, writes] =
            [IoDirection::Read, IoDirection::Write].map(|direction| load(&group, direction, 4, 512, end));
        until(end).await;
        let (reads, writes) = (reads.load(SeqCst), writes.load(SeqCst));
        assert!((reads + writes).abs_diff(1005) <= 3, "{reads} + {writes}");
        assert!(reads.abs_diff(writes) <= 10, "{reads}, {writes}");
    });
}

#[test]
fn a_drain_lets_what_waits_through_and_the_debt_stays() {
    Sim::new(5).run(async {
        let group = group(of_requests(rate(10, 0, 1)));
        let member = Arc::new(ThrottleMember::new(group.clone()));
        let (start, through) = (rt::now_ns(), Arc::new(Mutex::new(Vec::new())));
        for _ in 0..22 {
            let (member, through) = (member.clone(), through.clone());
            rt::spawn(async move {
                member.admit(IoDirection::Read, 1).await;
                through.lock().push(rt::now_ns() - start);
            })
            .detach();
        }
        rt::sleep(Duration::from_millis(10)).await;
        assert_eq!(through.lock().len(), 2, "one fills the bucket, one goes beyond it");
        member.drain(true);
        rt::sleep(Duration::from_millis(10)).await;
        assert_eq!(through.lock().len(), 22);
        member.admit(IoDirection::Read, 1).await;
        member.drain(false);
        let other = ThrottleMember::new(group);
        other.admit(IoDirection::Read, 1).await;
        let waited = (rt::now_ns() - start) / 1_000_000;
        assert_eq!(waited, 2200, "23 have gone through, of which the bucket holds one");
    });
}

#[test]
fn new_limits_hold_at_once_also_for_what_waits() {
    Sim::new(6).run(async {
        let group = group(of_requests(rate(1, 0, 1)));
        let member = Arc::new(ThrottleMember::new(group.clone()));
        member.admit(IoDirection::Write, 1).await;
        let start = rt::now_ns();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let member = member.clone();
                rt::spawn(async move { member.admit(IoDirection::Write, 1).await })
            })
            .collect();
        rt::sleep(Duration::from_millis(500)).await;
        group.set_limits(of_requests(rate(100, 0, 1))).unwrap();
        for task in waiting {
            task.await.unwrap();
        }
        assert!(rt::now_ns() - start <= 501_000_000, "ten fill a tenth of a second of the new limit");
        group.set_limits(of_requests(rate(1, 0, 1))).unwrap();
        member.admit(IoDirection::Write, 1).await;
        let last = {
            let member = member.clone();
            rt::spawn(async move { member.admit(IoDirection::Write, 1).await })
        };
        rt::sleep(Duration::from_millis(10)).await;
        group.set_limits(IoLimits::default()).unwrap();
        last.await.unwrap();
        assert!(rt::now_ns() - start <= 520_000_000, "without limits nothing waits");
    });
}

#[test]
fn a_request_that_is_given_up_leaves_its_turn_to_others() {
    Sim::new(7).run(async {
        let group = group(of_requests(rate(2, 0, 1)));
        let (one, two) = (ThrottleMember::new(group.clone()), ThrottleMember::new(group.clone()));
        one.admit(IoDirection::Read, 1).await;
        let start = rt::now_ns();
        let given_up = one.admit(IoDirection::Read, 1);
        assert!(rt::timeout(Duration::from_millis(100), given_up).await.is_err());
        two.admit(IoDirection::Read, 1).await;
        assert!((rt::now_ns() - start).abs_diff(400_000_000) < 1000, "{}", rt::now_ns() - start);
        drop(one);
        two.admit(IoDirection::Read, 1).await;
        assert!((rt::now_ns() - start).abs_diff(900_000_000) < 1000);
    });
}
