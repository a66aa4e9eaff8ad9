//! Medians over 20 runs of what a cell's network costs, printed for the record;
//! what is asked at every turn of the reconciler has to stay cheap.

use std::time::{Duration, Instant};

use kukeon::network::Network;

use crate::host::{cell, on_own_host};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn observing_is_cheap() {
    on_own_host("observing_is_cheap", async |host| {
        let network = host.network("lab", "10.199.0.0/24");
        host.cni.ensure_network(&network).await.unwrap();
        let names = [
            "create sandbox",
            "attach",
            "observe",
            "observe network",
            "detach",
            "remove sandbox",
        ];
        let mut times = vec![Vec::new(); names.len()];
        for run in 0..20 {
            let at = cell("lab", &format!("c{run}"));
            let mut lap = |i: usize, start: Instant| times[i].push(start.elapsed());
            let start = Instant::now();
            host.cni.create_sandbox(&at, false).await.unwrap();
            lap(0, start);
            let start = Instant::now();
            host.cni.attach(&at, &network).await.unwrap();
            lap(1, start);
            let start = Instant::now();
            assert!(host.cni.observe_sandbox(&at, false).await.unwrap().attached);
            lap(2, start);
            let start = Instant::now();
            assert!(host.cni.observe_network(&network).await.unwrap().bridge);
            lap(3, start);
            let start = Instant::now();
            host.cni.detach(&at, &network).await.unwrap();
            lap(4, start);
            let start = Instant::now();
            host.cni.remove_sandbox(&at).await.unwrap();
            lap(5, start);
        }
        for (name, times) in names.iter().zip(times) {
            let median = median(times);
            println!("{name:16} {:8.3} ms", median.as_secs_f64() * 1e3);
            // Running a program takes longer than this, even on a busy machine.
            let observes = name.starts_with("observe");
            assert!(!observes || median < Duration::from_millis(2), "{name}");
        }
        let start = Instant::now();
        host.cni.ensure_network(&network).await.unwrap();
        println!(
            "{:16} {:8.3} ms",
            "ensure network",
            start.elapsed().as_secs_f64() * 1e3
        );
    });
}
