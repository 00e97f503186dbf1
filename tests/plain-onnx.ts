import {
  type Backend,
  bindFeeds,
  evaluateShape,
  readFloat32,
  type State,
  Tensor,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { type OnnxOptions, toOnnx } from '@detailflow/onnx';
import ort from 'onnxruntime-node';
import protobuf from 'protobufjs';

/** The parts of the ONNX format that say which operators a model uses, with the field numbers of the standard. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Model { repeated OperatorSet opset_import = 8; Graph graph = 7; }
  message OperatorSet { string domain = 1; int64 version = 2; }
  message Graph { repeated Node node = 1; }
  message Node { string op_type = 4; string domain = 7; }
`);

/** Operators and operator sets of an .onnx file: `MatMul`, or `com.microsoft.FusedMatMul`. */
export function operatorsOf(onnx: Uint8Array): { operators: Set<string>; domains: string[] } {
  const model = root.lookupType('Model').decode(onnx) as unknown as {
    opsetImport: { domain: string }[];
    graph: { node: { opType: string; domain: string }[] };
  };
  const name = ({ domain, opType }: { domain: string; opType: string }) =>
    domain ? `${domain}.${opType}` : opType;
  return {
    operators: new Set(model.graph.node.map(name)),
    domains: model.opsetImport.map(({ domain }) => domain),
  };
}

/** How weights get into the model: all of them read into it, unless said. */
export interface PlainOnnxOptions {
  readonly place?: (weights: Weights) => Promise<OnnxOptions['placeWeight']>;
  /** Folder of the files that hold weights. */
  readonly folder?: string;
  /** Called with every model made. */
  readonly onModel?: (onnx: Uint8Array) => void;
}

/** What a user of the exported file would write: standard ONNX in onnxruntime-node, states passed by hand. */
export function createPlainOnnxBackend({ place = inline, folder, onModel }: PlainOnnxOptions = {}): Backend {
  return {
    name: 'plain ONNX',
    async compile(graph, weights) {
      const { bytes, states } = toOnnx(graph, { dialect: 'standard', placeWeight: await place(weights) });
      onModel?.(bytes);
      const session = await ort.InferenceSession.create(bytes, {
        executionProviders: ['cpu'],
        intraOpNumThreads: 1,
        logSeverityLevel: 3,
        ...(folder && { extra: { session: { model_external_initializers_file_folder_path: folder } } }),
      });
      return {
        async run(feeds, { state } = {}) {
          bindFeeds(graph, feeds);
          const buffers = (state as PlainState | undefined)?.buffers;
          const passed = states.map(({ name, input }) => [input, buffers?.get(name)]);
          const results = await session.run({ ...feeds, ...Object.fromEntries(passed) } as Record<
            string,
            ort.Tensor
          >);
          for (const { name, output } of states) {
            if (output) buffers?.set(name, results[output] as Tensor);
          }
          return Object.fromEntries([...graph.outputs.keys()].map((name) => [name, results[name] as Tensor]));
        },
        async createState(dims) {
          const zeros = states.map(({ name, shape, dtype }): [string, Tensor] => {
            const concrete = evaluateShape(shape, dims);
            const size = concrete.reduce((a, b) => a * b, 1);
            const tensor =
              dtype === 'i32'
                ? new Tensor('int32', new Int32Array(size), concrete)
                : new Tensor('float32', new Float32Array(size), concrete);
            return [name, tensor];
          });
          return new PlainState(new Map(zeros));
        },
        dispose: () => session.release(),
      };
    },
    createState: async (tensors) => new PlainState(new Map(Object.entries(tensors))),
    async close() {},
    async [Symbol.asyncDispose]() {},
  };
}

class PlainState implements State {
  readonly buffers: Map<string, Tensor>;

  constructor(buffers: Map<string, Tensor>) {
    this.buffers = buffers;
  }

  async read(name: string): Promise<Tensor> {
    return this.buffers.get(name) as Tensor;
  }

  async write(name: string, tensor: Tensor): Promise<void> {
    this.buffers.set(name, tensor);
  }

  async dispose(): Promise<void> {}
}

async function inline(weights: Weights): Promise<OnnxOptions['placeWeight']> {
  const values = new Map<string, Float32Array>();
  for (const [name, weight] of weights) values.set(name, await readFloat32(weight as Weight));
  return (name) => ({ inline: values.get(name) as Float32Array });
}
