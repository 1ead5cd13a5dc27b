"""Which TensorRT imports which ONNX operator: what NVIDIA's tables say, and no more.

Read off onnx-tensorrt's `docs/operators.md` at 8.0, 8.4, 8.5 and 10.15, and `docs/Changelog.md` for
the releases between them. It covers every operator that one of those four tables lists. It says
that an importer exists, not that it takes every attribute and type; there is no table for 7.1, for
11 or for plugins. Two entries of the older tables are corrected from the importer's source: Dropout
and Reciprocal have had importers since before 8.0, though the tables up to 8.0 and 8.4 say N.
"""

from __future__ import annotations

__all__ = ["COVERED_FROM", "NEVER", "SINCE"]

COVERED_FROM = (8, 0)

_NEW: dict[tuple[int, int], str] = {
    (8, 0): """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil
Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace
DequantizeLinear Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements
Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GRU HardSigmoid Identity
ImageScaler InstanceNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM
LpNormalization LpPool MatMul Max MaxPool Mean Min Mul Neg NonMaxSuppression Not Or Pad
ParametricSoftplus Pow PRelu QuantizeLinear RandomUniform RandomUniformLike Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RNN ScaledTanh Scan Selu Shape Sigmoid Sin Sinh
Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where
""",
    (8, 2): "Einsum GatherND If IsNaN Round Scatter ScatterElements ScatterND Sign",
    (8, 4): "Shrink Xor",
    (8, 5): "GridSample HardSwish MeanVarianceNormalization Mod NonZero OneHot RandomNormal "
    "RandomNormalLike RoiAlign Trilu",
    (8, 6): "GroupNormalization IsInf LayerNormalization",
    (9, 2): "Hardmax",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    (10, 14): "Attention",
    (10, 15): "RMSNormalization RotaryEmbedding TensorScatter",
}
SINCE = {name: version for version, names in _NEW.items() for name in names.split()}

# CastLike, Gelu and Mish are in the table of 10.15 and not in that of 8.5, and the changelog does
# not say when they came: they are in neither list, as is whatever is newer than these tables.
_NONE = """
AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im
Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger
MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional
OptionalGetElement OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt
SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap
SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer
Unique
"""
NEVER = frozenset(_NONE.split())
