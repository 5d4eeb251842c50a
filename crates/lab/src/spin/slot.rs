//! The slots of the dispatch tables.

macro_rules! slots {
    ($( $table:literal { $($slot:ident $name:literal),* $(,)? } )*) => {
        /// A slot of a dispatch table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are those of NDKPI")]
        pub enum Slot { $( $($slot,)* )* }

        impl Slot {
            /// All of them, table by table.
            pub const ALL: &[Slot] = &[ $( $(Slot::$slot,)* )* ];

            /// Table and function.
            #[must_use]
            pub fn name(self) -> (&'static str, &'static str) {
                match self { $( $(Slot::$slot => ($table, $name),)* )* }
            }
        }
    };
}

slots! {
    "adapter" {
        AdapterQueryExtension "NdkQueryExtension",
        QueryAdapterInfo "NdkQueryAdapterInfo",
        CreateCq "NdkCreateCq",
        CreatePd "NdkCreatePd",
        CreateSharedEndpoint "NdkCreateSharedEndpoint",
        CreateConnector "NdkCreateConnector",
        CreateListener "NdkCreateListener",
        BuildLam "NdkBuildLAM",
        ReleaseLam "NdkReleaseLAM",
    }
    "PD" {
        ClosePd "NdkClosePd",
        PdQueryExtension "NdkQueryExtension",
        CreateMr "NdkCreateMr",
        CreateMw "NdkCreateMw",
        CreateSrq "NdkCreateSrq",
        CreateQp "NdkCreateQp",
        CreateQpWithSrq "NdkCreateQpWithSrq",
        PrivilegedToken "NdkGetPrivilegedMemoryRegionToken",
    }
    "CQ" {
        CloseCq "NdkCloseCq",
        CqQueryExtension "NdkQueryExtension",
        ResizeCq "NdkResizeCq",
        ArmCq "NdkArmCq",
        GetCqResults "NdkGetCqResults",
        ControlCqInterruptModeration "NdkControlCqInterruptModeration",
        GetCqResultsEx "NdkGetCqResultsEx",
    }
    "QP" {
        CloseQp "NdkCloseQp",
        QpQueryExtension "NdkQueryExtension",
        Flush "NdkFlush",
        Send "NdkSend",
        Receive "NdkReceive",
        Bind "NdkBind",
        FastRegister "NdkFastRegister",
        Invalidate "NdkInvalidate",
        Read "NdkRead",
        Write "NdkWrite",
        SendAndInvalidate "NdkSendAndInvalidate",
    }
    "SRQ" {
        CloseSrq "NdkCloseSrq",
        SrqQueryExtension "NdkQueryExtension",
        ModifySrq "NdkModifySrq",
        SrqReceive "NdkSrqReceive",
    }
    "MR" {
        CloseMr "NdkCloseMr",
        MrQueryExtension "NdkQueryExtension",
        RegisterMr "NdkRegisterMr",
        DeregisterMr "NdkDeregisterMr",
        InitializeFastRegisterMr "NdkInitializeFastRegisterMr",
        RemoteTokenFromMr "NdkGetRemoteTokenFromMr",
        LocalTokenFromMr "NdkGetLocalTokenFromMr",
    }
    "MW" {
        CloseMw "NdkCloseMw",
        MwQueryExtension "NdkQueryExtension",
        RemoteTokenFromMw "NdkGetRemoteTokenFromMw",
    }
    "connector" {
        CloseConnector "NdkCloseConnector",
        ConnectorQueryExtension "NdkQueryExtension",
        Connect "NdkConnect",
        ConnectWithSharedEndpoint "NdkConnectWithSharedEndpoint",
        CompleteConnect "NdkCompleteConnect",
        Accept "NdkAccept",
        Reject "NdkReject",
        GetConnectionData "NdkGetConnectionData",
        ConnectorLocalAddress "NdkGetLocalAddress",
        ConnectorPeerAddress "NdkGetPeerAddress",
        Disconnect "NdkDisconnect",
        CompleteConnectEx "NdkCompleteConnectEx",
        AcceptEx "NdkAcceptEx",
    }
    "listener" {
        CloseListener "NdkCloseListener",
        ListenerQueryExtension "NdkQueryExtension",
        Listen "NdkListen",
        ListenerLocalAddress "NdkGetLocalAddress",
        ControlConnectEvents "NdkControlConnectEvents",
    }
    "shared endpoint" {
        CloseSharedEndpoint "NdkCloseSharedEndpoint",
        SharedEndpointQueryExtension "NdkQueryExtension",
        SharedEndpointLocalAddress "NdkGetLocalAddress",
    }
}

impl Slot {
    /// Those that post to an initiator queue.
    pub const INITIATOR: &[Slot] = &[
        Slot::Send,
        Slot::SendAndInvalidate,
        Slot::Read,
        Slot::Write,
        Slot::Bind,
        Slot::FastRegister,
        Slot::Invalidate,
    ];
}

#[cfg(test)]
mod tests {
    use super::Slot;

    /// Pointers in all tables together.
    #[test]
    fn no_slot_is_missing() {
        use ndkpi::*;
        let words = [
            size_of::<NDK_ADAPTER_DISPATCH>(),
            size_of::<NDK_PD_DISPATCH>(),
            size_of::<NDK_CQ_DISPATCH>(),
            size_of::<NDK_QP_DISPATCH>(),
            size_of::<NDK_SRQ_DISPATCH>(),
            size_of::<NDK_MR_DISPATCH>(),
            size_of::<NDK_MW_DISPATCH>(),
            size_of::<NDK_CONNECTOR_DISPATCH>(),
            size_of::<NDK_LISTENER_DISPATCH>(),
            size_of::<NDK_SHARED_ENDPOINT_DISPATCH>(),
        ];
        let slots = words.iter().sum::<usize>() / size_of::<usize>();
        assert_eq!(Slot::ALL.len(), slots);
    }
}
