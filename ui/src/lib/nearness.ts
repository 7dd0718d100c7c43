// Tells elements when they come near the screen and when they are far from it: one observer pair for all of them.

type Callback = (near: boolean) => void;

const NEAR = "240px 0px";
const FAR = "1200px 0px";

const callbacks = new WeakMap<Element, Callback>();
let observers: IntersectionObserver[] | null = null;

function observe(): IntersectionObserver[] {
  const tell = (near: boolean) => (entries: IntersectionObserverEntry[]) => {
    for (const entry of entries) {
      if (entry.isIntersecting === near) callbacks.get(entry.target)?.(near);
    }
  };
  return [
    new IntersectionObserver(tell(true), { rootMargin: NEAR }),
    new IntersectionObserver(tell(false), { rootMargin: FAR }),
  ];
}

/** Call back with true when element comes near the screen, with false when it is far away. Return how to stop. */
export function watchNearness(element: Element, callback: Callback): () => void {
  observers ??= observe();
  callbacks.set(element, callback);
  for (const observer of observers) observer.observe(element);
  return () => {
    callbacks.delete(element);
    for (const observer of observers ?? []) observer.unobserve(element);
  };
}
