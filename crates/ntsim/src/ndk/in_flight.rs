//! What memory outstanding requests use, so that a consumer who takes it away too early is told.
//!
//! A request is outstanding from its post until the consumer takes its result. Where that cannot be told it is not: a request
//! with silent success has no result, and the disconnect of a connection, the close of its connector and the close of the queue
//! pair end whatever the queue pair had outstanding, results taken or not. And a result that does not tell its type
//! (NdkGetCqResults) ends a request of either queue with its context, where both queues complete in one: the consumer cannot know
//! either which of them it was.

use std::cell::RefCell;
use std::collections::VecDeque;

use ndkpi::*;

/// A piece of memory that a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) token: u32,
    /// Virtual, or logical with the privileged token.
    pub(super) address: u64,
    pub(super) length: u32,
}

struct Request {
    function: &'static str,
    context: *mut c_void,
    /// Most requests have one element.
    first: Element,
    rest: Vec<Element>,
}

/// The requests of one queue, oldest first.
#[derive(Default)]
pub(super) struct InFlight(RefCell<VecDeque<Request>>);

/// The elements of a list.
///
/// # Safety
/// `list` has `count` elements.
pub(super) unsafe fn elements(
    list: *const NDK_SGE,
    count: u32,
) -> impl Iterator<Item = Element> + Clone {
    (0..count as usize).map(move |index| {
        // SAFETY: the caller's promise; both readings of the union are a 64-bit number.
        unsafe {
            let element = &*list.add(index);
            Element {
                token: element.MemoryRegionToken,
                address: element.Anonymous.LogicalAddress.cast_unsigned(),
                length: element.Length,
            }
        }
    })
}

impl InFlight {
    /// A request is about to be posted: its result may be taken before the post has returned.
    #[inline]
    pub(super) fn post(
        &self,
        function: &'static str,
        context: *mut c_void,
        mut elements: impl Iterator<Item = Element>,
    ) {
        let Some(first) = elements.next() else { return };
        self.0.borrow_mut().push_back(Request {
            function,
            context,
            first,
            rest: elements.collect(),
        });
    }

    /// The request posted last with that context was not accepted.
    #[cold]
    pub(super) fn reject(&self, context: *mut c_void) {
        let mut requests = self.0.borrow_mut();
        if let Some(index) = requests.iter().rposition(|r| r.context == context) {
            requests.remove(index);
        }
    }

    /// The result of a request was taken. Of several with the same context it counts as that of the oldest.
    #[inline]
    pub(super) fn result(&self, context: *mut c_void) {
        let mut requests = self.0.borrow_mut();
        if let Some(index) = requests.iter().position(|r| r.context == context) {
            requests.remove(index);
        }
    }

    /// Nothing accesses their memory any more.
    pub(super) fn end(&self) {
        self.0.borrow_mut().clear();
    }

    /// A request that uses such an element, as reports name it.
    pub(super) fn find(&self, is: impl Fn(&Element) -> bool) -> Option<String> {
        let requests = self.0.borrow();
        let uses = |r: &&Request| is(&r.first) || r.rest.iter().any(&is);
        requests
            .iter()
            .find(uses)
            .map(|r| format!("{} (request {:p})", r.function, r.context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(token: u32) -> Element {
        Element {
            token,
            address: 0x1000,
            length: 16,
        }
    }

    fn context(number: usize) -> *mut c_void {
        std::ptr::without_provenance_mut(number)
    }

    #[test]
    fn a_request_is_outstanding_until_its_result() {
        let queue = InFlight::default();
        let uses = |token| queue.find(|e| e.token == token).is_some();
        queue.post("NdkSend", context(1), [element(7), element(8)].into_iter());
        queue.post("NdkSend", context(1), [element(9)].into_iter());
        queue.post("NdkSend", context(2), std::iter::empty());
        assert!(uses(7) && uses(8) && uses(9) && !uses(10));
        queue.result(context(3));
        queue.result(context(2));
        assert!(uses(7));
        queue.result(context(1));
        assert!(
            !uses(7) && !uses(8) && uses(9),
            "the older of the two is over"
        );
        queue.post("NdkRead", context(1), [element(10)].into_iter());
        queue.reject(context(1));
        assert!(!uses(10) && uses(9));
        queue.end();
        assert!(!uses(9));
    }
}
