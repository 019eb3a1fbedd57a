// The search runs in a worker, which browsers refuse to a page that is read from a folder. There it
// runs in a hidden frame instead. mkdocs-material would load such a script from another machine.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inner = frame.contentWindow;
      const page = frame.contentDocument;
      page.open();
      page.write("<!doctype html><body></body>");
      page.close();
      this.inner.IFrameWorker = this.inner.importScripts = () => {
        throw new Error("only English is searched offline");
      };
      this.inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = page.createElement("script");
      script.src = address;
      script.onload = () => {
        this.send = (data) => this.inner.dispatchEvent(new MessageEvent("message", { data }));
        this.waiting.forEach(this.send);
      };
      page.body.append(script);
    }

    postMessage(data) {
      if (this.send) this.send(data);
      else this.waiting.push(data);
    }

    terminate() {
      this.inner.frameElement.remove();
    }
  };
}
