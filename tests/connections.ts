import { connect, type Socket } from 'node:net';

/** A connection of a client that says what it likes. */
export interface Connection {
  readonly socket: Socket;
  readonly closed: () => boolean;
  readonly heard: () => string;
}

/** Resolves when it is made, or refused. */
export function connection(port: number, said = ''): Promise<Connection> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let [isClosed, heard] = [false, ''];
    const one = { socket, closed: () => isClosed, heard: () => heard };
    socket.on('connect', () => {
      if (said !== '') socket.write(said);
      resolve(one);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      isClosed = true;
      resolve(one);
    });
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1');
    });
  });
}

/**
 * Many silent ones. The kernel keeps some hundred for a server that is busy, and loses more without telling the client: so
 * they come in parts, and after each the server has taken all of them when it has answered, or refused, a request.
 */
export async function connections(port: number, many: number): Promise<Connection[]> {
  const all: Connection[] = [];
  while (all.length < many) {
    const part = Math.min(250, many - all.length);
    all.push(...(await Promise.all(Array.from({ length: part }, () => connection(port)))));
    await fetch(`http://127.0.0.1:${port}/health`, { headers: { connection: 'close' } }).catch(
      () => undefined,
    );
  }
  return all;
}
