//! Tree ensembles: forests, boosted trees, isolation trees.

use std::collections::HashMap;

use super::Kind;
use super::linear::PostTransform;
use super::node::{Made, Node, Value};
use crate::load::LoadError;

pub(super) const REGRESSOR: &[&str] = &[
    "aggregate_function",
    "base_values",
    "base_values_as_tensor",
    "n_targets",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
    "target_weights_as_tensor",
];

pub(super) const CLASSIFIER: &[&str] = &[
    "base_values",
    "base_values_as_tensor",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "class_weights_as_tensor",
    "classlabels_int64s",
    "classlabels_strings",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
];

/// Where a row goes on from a branch.
#[derive(Clone, Copy, Debug)]
struct Branch {
    feature: usize,
    test: Test,
    value: f64,
    /// Indices of nodes.
    if_true: usize,
    if_false: usize,
}

#[derive(Clone, Copy, Debug)]
enum Test {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    NotEqual,
}

impl Test {
    fn holds(self, x: f64, value: f64) -> bool {
        match self {
            Self::AtMost => x <= value,
            Self::Below => x < value,
            Self::AtLeast => x >= value,
            Self::Above => x > value,
            Self::Equal => x == value,
            Self::NotEqual => x != value,
        }
    }
}

#[derive(Clone, Debug)]
enum Place {
    Branch(Branch),
    /// What it adds to which target.
    Leaf(Vec<(usize, f64)>),
}

struct Ensemble {
    row: Value,
    places: Vec<Place>,
    /// The root of each tree.
    roots: Vec<usize>,
    base: Vec<f64>,
}

impl Ensemble {
    /// `of`: `target` or `class`, by which the weights of the leaves are named.
    fn read(node: &Node<'_>, of: &str, targets: usize) -> Result<Self, LoadError> {
        let row = node.row()?.clone();
        node.check_volume(&[1, targets])?;
        let ids = keys(node, "nodes_treeids", "nodes_nodeids")?;
        let mut indices = HashMap::new();
        for (index, id) in ids.iter().enumerate() {
            if indices.insert(*id, index).is_some() {
                return Err(node.unfit(format!("node {} of tree {} twice", id.1, id.0)));
            }
        }
        let mut places = places(node, &ids, &indices, row.len())?;
        let leaves = keys(node, &format!("{of}_treeids"), &format!("{of}_nodeids"))?;
        let outputs = node.integers(&format!("{of}_ids"));
        let weights = node.reals(&format!("{of}_weights"))?;
        if outputs.len() != leaves.len() || weights.len() != leaves.len() {
            return Err(node.unfit("its weights are not as many as their leaves"));
        }
        for ((leaf, &output), weight) in leaves.iter().zip(outputs).zip(weights) {
            let output = usize::try_from(output)
                .ok()
                .filter(|&output| output < targets);
            let place = indices.get(leaf).map(|&index| &mut places[index]);
            let (Some(output), Some(Place::Leaf(parts))) = (output, place) else {
                return Err(node.unfit(format!("a weight of node {}, no leaf", leaf.1)));
            };
            parts.push((output, weight));
        }
        let roots = roots(node, &places)?;
        let base = node.reals("base_values")?;
        if !base.is_empty() && base.len() != targets && of == "target" {
            return Err(node.unfit(format!("{} base values for {targets} targets", base.len())));
        }
        Ok(Self {
            row,
            places,
            roots,
            base,
        })
    }

    /// The leaf of each tree that the row comes to.
    fn leaves<'a>(&'a self, numbers: &'a [f64]) -> impl Iterator<Item = &'a [(usize, f64)]> {
        let row = self.row.of(numbers);
        self.roots.iter().map(move |&root| {
            let mut at = root;
            loop {
                match &self.places[at] {
                    Place::Leaf(parts) => return &parts[..],
                    Place::Branch(branch) => {
                        let is_true = branch.test.holds(row[branch.feature], branch.value);
                        at = if is_true {
                            branch.if_true
                        } else {
                            branch.if_false
                        };
                    }
                }
            }
        })
    }
}

/// Which node of which tree.
type Id = (i64, i64);

fn keys(node: &Node<'_>, trees: &str, nodes: &str) -> Result<Vec<Id>, LoadError> {
    let (trees, nodes) = (node.integers(trees), node.integers(nodes));
    if trees.len() != nodes.len() || nodes.is_empty() {
        return Err(node.unfit("its trees and nodes are not as many"));
    }
    Ok(trees.iter().copied().zip(nodes.iter().copied()).collect())
}

fn places(
    node: &Node<'_>,
    ids: &[Id],
    indices: &HashMap<Id, usize>,
    width: usize,
) -> Result<Vec<Place>, LoadError> {
    let features = node.integers("nodes_featureids");
    let values = node.reals("nodes_values")?;
    let if_true = node.integers("nodes_truenodeids");
    let if_false = node.integers("nodes_falsenodeids");
    let modes = node
        .attribute("nodes_modes")
        .map_or(&[][..], |a| &a.strings);
    let lengths = [
        features.len(),
        values.len(),
        if_true.len(),
        if_false.len(),
        modes.len(),
    ];
    if lengths.iter().any(|&len| len != ids.len()) {
        return Err(node.unfit(format!(
            "{} nodes, but {lengths:?} of what they are",
            ids.len()
        )));
    }
    let place = |index: usize| {
        let test = match &modes[index][..] {
            b"LEAF" => return Ok(Place::Leaf(Vec::new())),
            b"BRANCH_LEQ" => Test::AtMost,
            b"BRANCH_LT" => Test::Below,
            b"BRANCH_GTE" => Test::AtLeast,
            b"BRANCH_GT" => Test::Above,
            b"BRANCH_EQ" => Test::Equal,
            b"BRANCH_NEQ" => Test::NotEqual,
            other => {
                let mode = String::from_utf8_lossy(other);
                return Err(node.unfit(format!("mode {mode} is not supported")));
            }
        };
        let tree = ids[index].0;
        let child = |id: i64| indices.get(&(tree, id)).copied();
        let feature = usize::try_from(features[index]).ok().filter(|&f| f < width);
        match (feature, child(if_true[index]), child(if_false[index])) {
            (Some(feature), Some(if_true), Some(if_false)) => Ok(Place::Branch(Branch {
                feature,
                test,
                value: values[index],
                if_true,
                if_false,
            })),
            _ => {
                let id = ids[index].1;
                Err(node.unfit(format!("node {id} of tree {tree} leads nowhere")))
            }
        }
    };
    (0..ids.len()).map(place).collect()
}

/// The nodes to which no branch leads. Every other one is reached from one of them, by
/// one way only: a walk from a root then ends, whatever the row.
fn roots(node: &Node<'_>, places: &[Place]) -> Result<Vec<usize>, LoadError> {
    let mut parents = vec![0_u32; places.len()];
    for place in places {
        if let Place::Branch(branch) = place {
            parents[branch.if_true] += 1;
            parents[branch.if_false] += 1;
        }
    }
    let roots: Vec<usize> = (0..places.len())
        .filter(|&index| parents[index] == 0)
        .collect();
    let are_trees = parents.iter().all(|&count| count <= 1);
    // In a ring every node has its one parent, but no root leads there.
    if !are_trees || reached(places, &roots) != places.len() {
        return Err(node.unfit("its branches do not make trees"));
    }
    Ok(roots)
}

/// How many nodes the roots lead to, none of them by two ways.
fn reached(places: &[Place], roots: &[usize]) -> usize {
    let mut waiting = roots.to_vec();
    let mut count = 0;
    while let Some(index) = waiting.pop() {
        count += 1;
        if let Place::Branch(branch) = &places[index] {
            waiting.extend([branch.if_true, branch.if_false]);
        }
    }
    count
}

pub(super) fn regress(node: &Node<'_>) -> Result<Made, LoadError> {
    let targets = usize::try_from(node.integer("n_targets", 1)).unwrap_or(0);
    let ensemble = Ensemble::read(node, "target", targets)?;
    let join: fn(f64, f64) -> f64 = match node.text("aggregate_function", "SUM")? {
        "SUM" | "AVERAGE" => |a, b| a + b,
        "MIN" => f64::min,
        "MAX" => f64::max,
        other => return Err(node.unfit(format!("aggregate {other} is not supported"))),
    };
    let is_average = node.text("aggregate_function", "SUM")? == "AVERAGE";
    let parts = if is_average {
        ensemble.roots.len() as f64
    } else {
        1.0
    };
    let is_sum = matches!(node.text("aggregate_function", "SUM")?, "SUM" | "AVERAGE");
    let post = PostTransform::read(node)?;
    Made::new(&[1, targets], Kind::Float, move |numbers, to| {
        // NaN: nothing yet, which the least and the greatest both ignore.
        to.fill(if is_sum { 0.0 } else { f64::NAN });
        for leaf in ensemble.leaves(numbers) {
            leaf.iter()
                .for_each(|&(target, weight)| to[target] = join(to[target], weight));
        }
        for (target, to) in to.iter_mut().enumerate() {
            let base = ensemble.base.get(target).copied().unwrap_or(0.0);
            let sum = if to.is_nan() { 0.0 } else { *to };
            *to = sum / parts + base;
        }
        post.apply(to);
    })
}

/// Scores as onnxruntime gives them, whose rules for two classes are its own: where
/// every leaf speaks of one class only, the other's score is made from it.
pub(super) fn classify(node: &Node<'_>) -> Result<Made, LoadError> {
    let labels = node.integers("classlabels_int64s");
    let names = node
        .attribute("classlabels_strings")
        .map_or(0, |a| a.strings.len());
    let classes = labels.len().max(names);
    let ensemble = Ensemble::read(node, "class", classes)?;
    let post = PostTransform::read(node)?;
    if node.output != 1 {
        return Err(node.unfit("its labels are not supported, only its scores"));
    }
    if ensemble.base.len() > 1 && ensemble.base.len() != classes {
        return Err(node.unfit(format!("{} base values", ensemble.base.len())));
    }
    let ids = node.integers("class_ids");
    let is_one_sided = classes == 2 && ids.iter().all(|id| Some(id) == ids.first());
    let are_positive = node
        .reals("class_weights")?
        .iter()
        .all(|&weight| weight >= 0.0);
    Made::new(&[1, classes], Kind::Float, move |numbers, to| {
        to.fill(0.0);
        for leaf in ensemble.leaves(numbers) {
            leaf.iter().for_each(|&(class, weight)| to[class] += weight);
        }
        if is_one_sided {
            // The class that the leaves speak of, wherever they put it.
            let score = to[0] + to[1] + ensemble.base.last().copied().unwrap_or(0.0);
            let pair = match post {
                _ if are_positive => [1.0 - score, score],
                PostTransform::Logistic => [-score, score],
                _ => return to.copy_from_slice(&[-score, score]),
            };
            to.copy_from_slice(&pair);
            if are_positive {
                return;
            }
        } else {
            for (to, base) in to.iter_mut().zip(&ensemble.base) {
                *to += base;
            }
        }
        post.apply(to);
    })
}
