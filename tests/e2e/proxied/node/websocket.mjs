// npm's ws: whoever uses it reconnects himself, from the last cursor. Arguments: URL, execution.
import WebSocket from "ws";

const [url, execution] = process.argv.slice(2);
let cursor;
let ended = false;

function connect() {
  const socket = new WebSocket(url, "tailrace.v1.json");
  socket.on("open", () => socket.send(JSON.stringify({ op: "subscribe", id: 1, execution, from: cursor })));
  socket.on("message", (frame) => {
    for (const message of JSON.parse(frame)) {
      if (message.op === "event" || message.op === "cursor") cursor = message.id;
      if (message.op === "event")
        console.log(JSON.stringify({ id: message.id, type: message.type, data: message.data }));
      if (message.op === "gap") process.exit(3);
      if (message.op === "end") {
        ended = true;
        socket.close();
      }
    }
  });
  socket.on("error", (error) => console.error(`connection lost: ${error.message}`));
  socket.on("close", (code) => {
    if (ended) return;
    console.error(`closed with ${code}`);
    setTimeout(connect, 50);
  });
}

connect();
