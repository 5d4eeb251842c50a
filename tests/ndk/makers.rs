//! One way to make an object of each type: for what holds of all of them.

use std::slice;

use ndkpi::status::STATUS_SUCCESS;
use ndkpi::{
    NDK_FN_QUERY_EXTENSION_INTERFACE, NDK_OBJECT_HEADER, NDK_OBJECT_TYPE, NTSTATUS,
    NdkObjectTypeAdapter, NdkObjectTypeConnector, NdkObjectTypeCq, NdkObjectTypeListener,
    NdkObjectTypeMr, NdkObjectTypeMw, NdkObjectTypePd, NdkObjectTypeQp,
    NdkObjectTypeSharedEndpoint, NdkObjectTypeSrq,
};
use ntsim::ndk::{Adapter, Pending};

use crate::lab::{Side, from, limits};
use crate::raw::{Completed, Shared};

/// An object of whatever type.
pub struct Made<'a> {
    object: *mut NDK_OBJECT_HEADER,
    /// The functions of its table, as numbers.
    pub slots: &'a [usize],
    query_extension: NDK_FN_QUERY_EXTENSION_INTERFACE,
}

impl Made<'_> {
    /// Its header.
    pub fn header(&self) -> NDK_OBJECT_HEADER {
        // SAFETY: an open object begins with its header.
        unsafe { *self.object }
    }

    /// NdkQueryExtension, of an interface that there is not.
    pub fn query_extension(&self) -> NTSTATUS {
        let mut id = ndkpi::GUID::ZEROED;
        let mut interface = ndkpi::NDK_EXTENSION_INTERFACE::ZEROED;
        let version = self.header().Version;
        // SAFETY: an open object and valid parameters.
        unsafe { (self.query_extension)(self.object, &raw mut id, version, &raw mut interface) }
    }
}

/// Makes an object among those of a side, shows it, closes it and waits until it is closed: how it could not be made, or what the
/// close answered. Kernel code, PASSIVE_LEVEL. Allocates nothing itself.
type Make = fn(&Side, &dyn Fn(&Made)) -> Result<NTSTATUS, NTSTATUS>;

/// How an object of a type is made.
pub struct Maker {
    /// What makes it, by name.
    pub name: &'static str,
    /// The type.
    pub kind: NDK_OBJECT_TYPE,
    /// Makes one.
    pub make: Make,
}

fn slots<T>(table: &T) -> &[usize] {
    let count = size_of::<T>() / size_of::<usize>();
    // SAFETY: a dispatch table is an array of function pointers.
    unsafe { slice::from_raw_parts(std::ptr::from_ref(table).cast(), count) }
}

fn closed(closing: &Pending) -> NTSTATUS {
    let _ = closing.wait_here();
    closing.inline_status()
}

macro_rules! show {
    ($object:ident, $to:ident) => {
        $to(&Made {
            object: $object.raw().cast(),
            slots: slots($object.table()),
            query_extension: $object.table().NdkQueryExtension,
        })
    };
}

macro_rules! maker {
    ($name:literal, $kind:ident, $antecedent:ident.$create:ident($($argument:expr),*)) => {
        Maker {
            name: $name,
            kind: $kind,
            make: |side, show| {
                let object = side.$antecedent.$create($($argument),*)?;
                show!(object, show);
                Ok(closed(&object.start_close()))
            },
        }
    };
}

/// Every function that makes objects.
pub const MAKERS: [Maker; 12] = [
    Maker {
        name: "OpenNDKAdapter",
        kind: NdkObjectTypeAdapter,
        make: |side, show| {
            // SAFETY: an open adapter.
            let version = unsafe { (*side.adapter.raw()).Header.Version };
            let adapter = Adapter::open(version)?;
            show!(adapter, show);
            adapter.close();
            Ok(STATUS_SUCCESS)
        },
    },
    maker!("NdkCreateCq", NdkObjectTypeCq, adapter.create_cq(64)),
    maker!("NdkCreatePd", NdkObjectTypePd, adapter.create_pd()),
    maker!(
        "NdkCreateConnector",
        NdkObjectTypeConnector,
        adapter.create_connector()
    ),
    maker!(
        "NdkCreateListener",
        NdkObjectTypeListener,
        adapter.create_listener()
    ),
    Maker {
        name: "NdkCreateSharedEndpoint",
        kind: NdkObjectTypeSharedEndpoint,
        make: |side, show| {
            let shared = Shared::create(side, from(side))?;
            show!(shared, show);
            let status = shared.close(&Completed::default());
            assert_eq!(status, STATUS_SUCCESS, "nothing uses it");
            Ok(status)
        },
    },
    maker!("NdkCreateMr", NdkObjectTypeMr, pd.create_mr()),
    maker!(
        "NdkCreateMr, FastRegister",
        NdkObjectTypeMr,
        pd.create_fast_mr()
    ),
    maker!("NdkCreateMw", NdkObjectTypeMw, pd.create_mw()),
    maker!("NdkCreateSrq", NdkObjectTypeSrq, pd.create_srq(64, 2, 0)),
    Maker {
        name: "NdkCreateQp",
        kind: NdkObjectTypeQp,
        make: |side, show| {
            let qp = side.pd.create_qp(&side.cq, &side.cq, limits())?;
            show!(qp, show);
            Ok(closed(&qp.start_close()))
        },
    },
    Maker {
        name: "NdkCreateQpWithSrq",
        kind: NdkObjectTypeQp,
        make: |side, show| {
            let (pd, cq) = (&side.pd, &side.cq);
            let srq = pd.create_srq(64, 2, 0)?;
            let made = pd.create_qp_with_srq(cq, cq, &srq, limits()).map(|qp| {
                show!(qp, show);
                closed(&qp.start_close())
            });
            srq.close();
            made
        },
    },
];
