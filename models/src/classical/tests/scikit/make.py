"""Makes the ONNX files beside it and `answers.json`: what onnxruntime says of them.

Run with Python 3.11, numpy 2, scikit-learn, skl2onnx and onnxruntime of the versions
that `answers.json` names. Every seed is fixed.
"""
import json, pathlib, sys
import numpy as np
import onnx, onnxruntime, skl2onnx, sklearn
from onnx import helper, TensorProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (ExtraTreesRegressor, GradientBoostingClassifier, GradientBoostingRegressor,
                              IsolationForest, RandomForestClassifier, RandomForestRegressor)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import SVR, OneClassSVM
from sklearn.tree import DecisionTreeRegressor

here = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
random = np.random.default_rng(7)
WIDTH = 4
normal = random.normal(size=(120, WIDTH)).astype(np.float32)
target = normal @ [1.0, -2.0, 0.5, 0.0] + np.sin(normal[:, 0])
classes = (target > 0).astype(int)
three = np.digitize(target, [-1, 1])
rows = np.concatenate([normal[:5], 4 * random.normal(size=(5, WIDTH)).astype(np.float32), np.zeros((1, WIDTH), np.float32)])

def regressor(kind, output="variable"):
    return kind.fit(normal, target), output

learners = {
    "isolation_forest": (IsolationForest(n_estimators=10, max_samples=32, random_state=1).fit(normal), "scores"),
    "one_class_svm": (OneClassSVM(nu=0.1).fit(normal[:40]), "scores"),
    "one_class_poly": (OneClassSVM(nu=0.2, kernel="poly", degree=2, coef0=1.0).fit(normal[:30]), "scores"),
    "scaled_one_class_svm": (make_pipeline(StandardScaler(), OneClassSVM(nu=0.1, kernel="sigmoid")).fit(normal[:40]), "scores"),
    "svr_linear": regressor(SVR(kernel="linear")),
    "scaler_mlp": regressor(make_pipeline(MinMaxScaler(), MLPRegressor(hidden_layer_sizes=(6,), random_state=1, max_iter=50))),
    "robust_pca_ridge": regressor(make_pipeline(RobustScaler(), PCA(2), Ridge())),
    "imputer_normalizer_ridge": regressor(make_pipeline(SimpleImputer(), Normalizer("l2"), Ridge())),
    "binarizer_ridge": regressor(make_pipeline(Binarizer(threshold=0.2), Ridge())),
    "tree": regressor(DecisionTreeRegressor(max_depth=4)),
    "forest": regressor(RandomForestRegressor(6, max_depth=4, random_state=1)),
    "extra_trees": regressor(ExtraTreesRegressor(6, max_depth=4, random_state=1)),
    "boosted": regressor(GradientBoostingRegressor(n_estimators=10, random_state=1)),
    "forest_classifier": (RandomForestClassifier(5, max_depth=4, random_state=1).fit(normal, classes), "probabilities"),
    "forest_three_classes": (RandomForestClassifier(5, max_depth=4, random_state=1).fit(normal, three), "probabilities"),
    "boosted_classifier": (GradientBoostingClassifier(n_estimators=5, random_state=1).fit(normal, classes), "probabilities"),
    "logistic": (LogisticRegression().fit(normal, classes), "probabilities"),
    "logistic_three_classes": (LogisticRegression().fit(normal, three), "probabilities"),
    "k_means": (KMeans(3, random_state=1, n_init=2).fit(normal), "scores"),
    "gaussian_mixture": (GaussianMixture(2, random_state=1).fit(normal), "score_samples"),
}
answers = {"made_by": {m.__name__: m.__version__ for m in (sklearn, skl2onnx, onnxruntime)}, "rows": rows.tolist(), "models": {}}
for name, (learner, output) in learners.items():
    last = learner.steps[-1][1] if hasattr(learner, "steps") else learner
    options = {id(last): {"zipmap": False}} if output == "probabilities" else None
    if output == "score_samples":
        options = {id(last): {"score_samples": True}}
    model = to_onnx(learner, initial_types=[("X", FloatTensorType([None, WIDTH]))], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    del model.metadata_props[:]
    model.doc_string = ""
    (here / f"{name}.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    try:
        said = np.concatenate([session.run([output], {"X": row[None]})[0].reshape(1, -1) for row in rows])
        answers["models"][name] = {"outputs": int(said.shape[1]), "answers": said.astype(np.float64).tolist()}
    except Exception as error:
        print(name, outputs, error); raise
(here / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
for p in sorted(here.glob("*.onnx")): print(p.name, p.stat().st_size)
