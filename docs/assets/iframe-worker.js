// A browser starts no worker for a page that is a file. There, run its script in a hidden frame:
// the frame has a global scope of its own, and what one side posts is an event of the other.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      this.scope = this.frame.contentWindow;
      this.scope.postMessage = (data) => this.tell(this, window, data);
      this.scope.importScripts = (...urls) => Promise.all(urls.map((one) => this.load(one)));
      this.ready = this.load(url);
    }

    // As between threads: the other side gets a copy, made of its own kinds of objects, and later.
    tell(target, { MessageEvent, structuredClone }, data) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => {
        target.dispatchEvent(event);
        if (target === this) this.onmessage?.(event);
      });
    }

    load(url) {
      return new Promise((done, failed) => {
        const page = this.frame.contentDocument;
        const script = page.createElement("script");
        script.src = new URL(url, location.href).href;
        script.onload = done;
        script.onerror = failed;
        page.head.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.tell(this.scope, this.scope, data));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
