"use strict";
// E[x|z] from a decoder's layers. The same file runs in the page and in the tests.
const activations = {
  none: (h) => h,
  tanh: Math.tanh,
  relu: (h) => Math.max(h, 0),
  elu: (h) => (h > 0 ? h : Math.expm1(h)),
  sigmoid: (h) => 1 / (1 + Math.exp(-h)),
};

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

function readLayers(packed) {
  return packed.map((layer) => ({
    weight: floatsOf(layer.weight),
    bias: floatsOf(layer.bias),
    activation: activations[layer.activation],
  }));
}

function decode(layers, z) {
  let inputs = Float64Array.from(z);
  for (const { weight, bias, activation } of layers) {
    const outputs = new Float64Array(bias.length);
    for (let row = 0; row < bias.length; row++) {
      let sum = bias[row];
      for (let column = 0; column < inputs.length; column++) sum += weight[row * inputs.length + column] * inputs[column];
      outputs[row] = activation(sum);
    }
    inputs = outputs;
  }
  return inputs;
}

function greyOf(view, value) {
  let level = value;
  if (view.grey === "logit") level = (1 / (1 + Math.exp(-value)) - view.alpha) / (1 - 2 * view.alpha);
  if (view.grey === "linear") level = (value - view.low) / (view.high - view.low);
  return Math.min(1, Math.max(0, level));
}

if (typeof module !== "undefined") module.exports = { readLayers, decode, greyOf };
