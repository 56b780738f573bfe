//! `sr3 bench peaks`: the ceilings of this machine.

use serde_json::json;
use sr3_engine::ops::peaks;

use super::{BenchResult, Timing};

pub(super) fn run(timing: Timing) -> BenchResult {
    let isa = timing.isa();
    let all = rayon::current_num_threads();
    let counts = if all == 1 { vec![1] } else { vec![1, all] };
    let report = |case: &str, unit: &str, threads: usize, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let value = values[values.len() / 2];
        if timing.json {
            let line = json!({
                "case": case, "peer": "sr3", "value": value, "unit": unit, "threads": threads,
                "repeat": values.len(), "cpu_features": isa.to_string(), "version": env!("CARGO_PKG_VERSION"),
            });
            say!("{line}");
        } else {
            let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            say!("{case}, {threads}: {value:.1} {unit}");
        }
    };
    let repeats = |of: &dyn Fn() -> f64| (0..timing.repeat).map(|_| of()).collect::<Vec<_>>();
    for threads in counts {
        let together = |work: &(dyn Fn() -> f64 + Sync)| -> f64 {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                running.into_iter().filter_map(|thread| thread.join().ok()).sum()
            })
        };
        report("peaks/fma-f32", "GFLOP/s", threads, repeats(&|| together(&|| peaks::fma(isa))));
        if peaks::bf16_dot().is_some() {
            let dot = || together(&|| peaks::bf16_dot().unwrap_or(0.0));
            report("peaks/dot-bf16", "GFLOP/s", threads, repeats(&dot));
        } else if !timing.json && threads == 1 {
            say!("peaks/dot-bf16: this processor has no instruction for it");
        }
        report("peaks/read-memory", "GB/s", threads, repeats(&|| together(&|| peaks::bandwidth(isa))));
    }
    Ok(())
}
