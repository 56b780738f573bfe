//! What a generating job takes: stages, units, memory, and time on a machine like this one, by computing a step of each stage.

use std::time::Duration;

use sr3_engine::ops::Isa;
use sr3_jobs::generate::{Generate, GenerateOrder};
use sr3_proto::words::printable;
use sr3_worker::memory;

use crate::{clock::clock, exit::CommandError};

/// A stage that needs more of the machine's memory than this is not tried.
const MEMORY_SHARE: f64 = 0.8;
/// Side of a picture whose size is not known, over the scale of what made it.
const UNKNOWN_SIDE: u64 = 64;

/// Prints it. Writes nothing anywhere.
pub(super) fn print(kind: &Generate, order: &GenerateOrder) -> Result<(), CommandError> {
    let room = memory::most().map_or(u64::MAX, |room| room.limit);
    let count = if order.source.is_some() { 1 } else { order.count };
    match &order.source {
        Some(source) => say!("one sample for each picture in {}; what follows is for one", printable(source)),
        None => say!("{count} samples"),
    }
    if !order.classes.is_empty() {
        say!(
            "{} classes, each {} to {} times",
            order.classes.len(),
            count / order.classes.len() as u64,
            count.div_ceil(order.classes.len() as u64)
        );
    }
    let (mut total, mut units, mut known, mut scale) = (0.0, 0, true, 1);
    for (number, stage) in order.stages.iter().enumerate() {
        scale *= stage.scale;
        let side = if stage.side > 0 { stage.side } else { UNKNOWN_SIDE * scale };
        units += count.div_ceil(stage.samples);
        let gib = stage.memory_bytes as f64 / f64::from(1 << 30);
        let what = format!(
            "stage {}: {} to {side} pixels, {} evaluations a sample, {} samples a unit, {gib:.1} GiB",
            number + 1,
            printable(&stage.model_name),
            stage.evaluations,
            stage.samples
        );
        if stage.memory_bytes as f64 > MEMORY_SHARE * room as f64 {
            say!("{what}, not measured here: this machine has {:.1} GiB", room as f64 / f64::from(1 << 30));
            known = false;
            continue;
        }
        let opened = kind.open_stage(order, number).map_err(CommandError::failed)?;
        let seconds = opened.measure(side as usize).map_err(CommandError::failed)?;
        total += seconds;
        say!("{what}, {seconds:.2} s a sample here ({})", Isa::detect());
    }
    let memory: u64 = order.stages.iter().map(|stage| stage.memory_bytes).sum();
    say!("{units} units, {:.1} GiB of memory a worker", memory as f64 / f64::from(1 << 30));
    if known {
        let all = total * count as f64;
        let hours = all / 3600.0;
        let time = match hours {
            0.0..48.0 => clock(Duration::from_secs_f64(all)),
            _ => format!("{:.0} days", hours / 24.0),
        };
        say!("{time} by one worker like this machine: {hours:.1} device-hours");
    }
    Ok(())
}
