//! An order at work: what its units share, and which kind of unit is which.

use std::sync::Arc;

use async_trait::async_trait;
use sr3_proto::{FailureKind, Grant, Order, Store};
use sr3_worker::{Failure, OpenOrder, Runner, Stores, UnitWork};

use super::{
    CompareOrder, NAME,
    looking::{LookUnit, Looks},
    numbers::{Came, NumbersUnit},
    unit::{Item, UnitBytes, open_items, verdicts},
};
use crate::models::{Delivered, Weights};

/// Pictures that go through the network together; it changes no bit.
const BATCH: usize = 8;

/// An order with its stores open.
pub struct ComparedOrder {
    order: Arc<CompareOrder>,
    /// Of its sets.
    stores: Vec<Arc<Store>>,
    looks: Arc<Looks>,
    batch: usize,
}

impl ComparedOrder {
    /// With the stores of its sets, each once, and where features go. Weights are looked for in `weights`, and beside the features.
    pub fn new(order: CompareOrder, stores: Vec<Arc<Store>>, features: Arc<Store>, weights: Weights) -> Self {
        let network = Delivered::new(order.network.clone(), weights, Arc::clone(&features));
        let looks = Looks { mode: order.mode.0, keeps: order.keeps(), network: Arc::new(network), features };
        Self { order: Arc::new(order), stores, looks: Arc::new(looks), batch: BATCH }
    }

    /// The same, with so many pictures at once.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch: batch.max(1), ..self }
    }
}

/// The runner of the one order that is open already: of a process that works for itself.
pub struct OpenedCompare(pub Arc<ComparedOrder>);

#[async_trait]
impl Runner for OpenedCompare {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, _: &Arc<Order>, _: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        Ok(Arc::<ComparedOrder>::clone(&self.0))
    }
}

impl OpenOrder for ComparedOrder {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        match UnitBytes::decode(&grant.unit)? {
            UnitBytes::Look { set, items } => {
                let source = self.stores.get(set as usize).cloned();
                let source =
                    source.ok_or_else(|| Failure::new(FailureKind::Worker, "there is no such set"))?;
                let counts = items.iter().map(Item::count).collect();
                let earlier = verdicts(&grant.records);
                let open = open_items(items, &earlier);
                // Alone, so that it is known which picture takes a worker down.
                let batch = if grant.isolated { 1 } else { self.batch };
                Ok(Arc::new(LookUnit::new(Arc::clone(&self.looks), source, counts, open, earlier, batch)))
            }
            UnitBytes::Numbers { run } => {
                let earlier = grant.records.iter().find(|record| Came::read(record).is_some()).cloned();
                Ok(Arc::new(NumbersUnit {
                    order: Arc::clone(&self.order),
                    run,
                    stores: self.stores.clone(),
                    features: Arc::clone(&self.looks.features),
                    earlier,
                }))
            }
        }
    }
}
