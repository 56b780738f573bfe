//! What a training run takes: parameters, memory, and time on a machine like this one, by computing a call of its network.

use std::time::Instant;

use sr3_engine::{
    model::{Graph, initial_weights},
    ops::Isa,
    train::{Draws, Examples, Trainer},
};
use sr3_jobs::train::TrainOrder;
use sr3_proto::words::printable;
use sr3_worker::memory;

use crate::{clock::clock, exit::CommandError};

/// A call of a network that needs more of the machine's memory than this is not tried.
const MEMORY_SHARE: f64 = 0.8;

/// Prints it. Writes nothing anywhere.
pub(super) fn print(order: &TrainOrder) -> Result<(), CommandError> {
    let recipe = &order.recipe;
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
    let graph = Graph::build(&recipe.model).map_err(|e| failed(&e))?;
    let (parameters, samples) = (graph.parameter_count(), order.steps * recipe.batch);
    say!("{}: {}", printable(&order.model_name), recipe.sizes());
    say!("{:.1} million parameters", parameters as f64 / 1e6);
    say!(
        "{} steps of {} samples ({samples} in all), {} grains of {}, {} at once",
        order.steps,
        recipe.batch,
        recipe.grains,
        recipe.grain(),
        recipe.microbatch
    );
    say!("{:.1} GiB of memory a worker, estimated", order.memory_bytes as f64 / f64::from(1 << 30));
    say!("{:.1} MiB of gradient a step and worker, each way", parameters as f64 * 4.0 / f64::from(1 << 20));
    let room = memory::most().map_or(u64::MAX, |room| room.limit);
    if order.memory_bytes as f64 > MEMORY_SHARE * room as f64 {
        say!("not measured here: this machine has {:.1} GiB", room as f64 / f64::from(1 << 30));
        return Ok(());
    }
    let second = samples_a_second(order, &graph)?;
    let days = samples as f64 / second / 86_400.0;
    let time = match days {
        0.0..2.0 => clock(std::time::Duration::from_secs_f64(days * 86_400.0)),
        2.0..1000.0 => format!("{days:.0} days"),
        _ => format!("{:.0} years", days / 365.0),
    };
    say!("{second:.3} samples/s by one worker like this machine ({}): {time}", Isa::detect());
    Ok(())
}

/// Computes the gradient of a call, twice; the second counts.
fn samples_a_second(order: &TrainOrder, graph: &Graph) -> Result<f64, CommandError> {
    let recipe = &order.recipe;
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
    let task = recipe.task().map_err(|e| failed(&e))?;
    let (weights, dropout) = (initial_weights(graph, recipe.seed), Draws::new(recipe.seed).dropout());
    let trainer = Trainer::new(&recipe.model, &weights, recipe.precision(), &task, dropout, Isa::detect());
    let mut trainer = trainer.map_err(|e| failed(&e))?;
    let (count, side) = (recipe.microbatch as usize, recipe.high_res as usize);
    let values = |channels: usize| {
        let value = |i: usize| (i * 7919 % 2003) as f32 / 1001.0 - 1.0;
        (0..count * side * side * channels).map(value).collect::<Vec<_>>()
    };
    let call = Examples {
        shape: [count, side, side],
        input: values(task.in_channels()),
        levels: vec![0.5; count],
        told: vec![0.5; count],
        labels: vec![0; if recipe.model.classes > 0 { count } else { 0 }],
        target: values(3),
        images: values(3),
        places: (0..count as u32).collect(),
        step: 0,
    };
    let mut gradient = vec![0.0; trainer.parameters().len()];
    let mut seconds = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        trainer.grain(std::slice::from_ref(&call), count, &mut gradient).map_err(|e| failed(&e))?;
        seconds = begun.elapsed().as_secs_f64();
    }
    Ok(count as f64 / seconds)
}
