//! Every operator that there is, with the attributes that it knows.

use tract_onnx::pb::NodeProto;

use super::node::{Made, Node};
use super::{elementwise, linear, rearrange, reduce, support, trees};
use crate::load::LoadError;

/// How one operator is read.
pub(super) struct Operator {
    /// With the domain in front, if it is not ONNX's own.
    name: &'static str,
    pub(super) attributes: &'static [&'static str],
    pub(super) read: fn(&Node<'_>) -> Result<Made, LoadError>,
}

/// The operators of this backend, as `hark model operators` lists them.
pub fn operator_names() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|operator| operator.name)
}

/// The operator of a node, if there is one.
pub(super) fn find(node: &NodeProto) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| {
        let (domain, name) = operator
            .name
            .rsplit_once('.')
            .unwrap_or(("", operator.name));
        let is_own = matches!(node.domain.as_str(), "" | "ai.onnx") && domain.is_empty();
        name == node.op_type && (is_own || domain == node.domain)
    })
}

const fn operator(
    name: &'static str,
    attributes: &'static [&'static str],
    read: fn(&Node<'_>) -> Result<Made, LoadError>,
) -> Operator {
    Operator {
        name,
        attributes,
        read,
    }
}

static OPERATORS: &[Operator] = &[
    operator("Abs", &[], |n| elementwise::unary(n, f64::abs)),
    operator("Add", &[], |n| elementwise::binary(n, |a, b| a + b)),
    operator("And", &[], |n| elementwise::binary(n, |a, b| a * b)),
    operator("ArgMax", reduce::ARG, |n| reduce::arg(n, |a, b| a > b)),
    operator("ArgMin", reduce::ARG, |n| reduce::arg(n, |a, b| a < b)),
    operator("Cast", &["to"], elementwise::cast),
    operator("Ceil", &[], |n| elementwise::unary(n, f64::ceil)),
    operator("Clip", &["min", "max"], elementwise::clip),
    operator("Concat", &["axis"], rearrange::concat),
    operator(
        "Constant",
        &["value", "value_float", "value_int"],
        rearrange::constant,
    ),
    operator("Cos", &[], |n| elementwise::unary(n, f64::cos)),
    operator("Div", &[], elementwise::divide),
    operator("Equal", &[], |n| elementwise::compare(n, |a, b| a == b)),
    operator("Exp", &[], |n| elementwise::unary(n, f64::exp)),
    operator("Flatten", &["axis"], rearrange::flatten),
    operator("Floor", &[], |n| elementwise::unary(n, f64::floor)),
    operator("Gather", &["axis"], rearrange::gather),
    operator("Gemm", &["alpha", "beta", "transA", "transB"], linear::gemm),
    operator("Greater", &[], |n| elementwise::compare(n, |a, b| a > b)),
    operator("GreaterOrEqual", &[], |n| {
        elementwise::compare(n, |a, b| a >= b)
    }),
    operator("Identity", &[], rearrange::identity),
    operator("Less", &[], |n| elementwise::compare(n, |a, b| a < b)),
    operator("LessOrEqual", &[], |n| {
        elementwise::compare(n, |a, b| a <= b)
    }),
    operator("Log", &[], |n| elementwise::unary(n, f64::ln)),
    operator("MatMul", &[], linear::mat_mul),
    operator("Max", &[], |n| elementwise::fold(n, f64::max)),
    operator("Mean", &[], elementwise::mean),
    operator("Min", &[], |n| elementwise::fold(n, f64::min)),
    operator("Mul", &[], |n| elementwise::binary(n, |a, b| a * b)),
    operator("Neg", &[], |n| elementwise::unary(n, |a| -a)),
    operator("Not", &[], |n| elementwise::unary(n, |a| 1.0 - a)),
    operator("Or", &[], |n| elementwise::binary(n, f64::max)),
    operator("Pow", &[], elementwise::power),
    operator("Reciprocal", &[], |n| elementwise::unary(n, f64::recip)),
    operator("ReduceL1", reduce::REDUCE, |n| reduce::fold(n, reduce::l1)),
    operator("ReduceL2", reduce::REDUCE, |n| reduce::fold(n, reduce::l2)),
    operator("ReduceLogSumExp", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::log_sum_exp)
    }),
    operator("ReduceMax", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::max)
    }),
    operator("ReduceMean", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::mean)
    }),
    operator("ReduceMin", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::min)
    }),
    operator("ReduceProd", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::product)
    }),
    operator("ReduceSum", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::sum)
    }),
    operator("ReduceSumSquare", reduce::REDUCE, |n| {
        reduce::fold(n, reduce::sum_square)
    }),
    operator("Relu", &[], |n| elementwise::unary(n, |a| a.max(0.0))),
    operator("Reshape", &["allowzero"], rearrange::reshape),
    operator("Round", &[], |n| {
        elementwise::unary(n, f64::round_ties_even)
    }),
    operator("Shape", &[], rearrange::shape),
    operator("Sigmoid", &[], |n| {
        elementwise::unary(n, elementwise::logistic)
    }),
    operator("Sign", &[], |n| elementwise::unary(n, elementwise::sign)),
    operator("Sin", &[], |n| elementwise::unary(n, f64::sin)),
    operator("Slice", &["starts", "ends", "axes"], rearrange::slice),
    operator("Softmax", &["axis"], reduce::softmax),
    operator("Sqrt", &[], |n| elementwise::unary(n, f64::sqrt)),
    operator("Squeeze", &["axes"], rearrange::squeeze),
    operator("Sub", &[], |n| elementwise::binary(n, |a, b| a - b)),
    operator("Sum", &[], |n| elementwise::fold(n, |a, b| a + b)),
    operator("Tanh", &[], |n| elementwise::unary(n, f64::tanh)),
    operator("Transpose", &["perm"], rearrange::transpose),
    operator("Unsqueeze", &["axes"], rearrange::unsqueeze),
    operator("Where", &[], elementwise::choose),
    operator("Xor", &[], |n| elementwise::binary(n, |a, b| (a - b).abs())),
    operator("ai.onnx.ml.ArrayFeatureExtractor", &[], rearrange::extract),
    operator("ai.onnx.ml.Binarizer", &["threshold"], linear::binarize),
    operator(
        "ai.onnx.ml.FeatureVectorizer",
        &["inputdimensions"],
        rearrange::vectorize,
    ),
    operator("ai.onnx.ml.Imputer", linear::IMPUTER, linear::impute),
    operator("ai.onnx.ml.LabelEncoder", linear::ENCODER, linear::encode),
    operator(
        "ai.onnx.ml.LinearClassifier",
        linear::CLASSIFIER,
        linear::classify,
    ),
    operator(
        "ai.onnx.ml.LinearRegressor",
        linear::REGRESSOR,
        linear::regress,
    ),
    operator("ai.onnx.ml.Normalizer", &["norm"], linear::normalize),
    operator(
        "ai.onnx.ml.SVMRegressor",
        support::REGRESSOR,
        support::regress,
    ),
    operator("ai.onnx.ml.Scaler", &["offset", "scale"], linear::scale),
    operator(
        "ai.onnx.ml.TreeEnsembleClassifier",
        trees::CLASSIFIER,
        trees::classify,
    ),
    operator(
        "ai.onnx.ml.TreeEnsembleRegressor",
        trees::REGRESSOR,
        trees::regress,
    ),
];
