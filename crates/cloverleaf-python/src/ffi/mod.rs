//! A fence: the C-API calls without a safe form, or whose safe form is measurably slower.
//!
//! Everything here offers safe functions only. Those that need the thread to be attached to Python take a `Python`
//! or a `Bound` as proof.
#![expect(unsafe_code, reason = "this is the fence")]

#[macro_use]
mod attribute;
#[macro_use]
mod once;

mod arguments;
mod attach;
mod attached;
mod audit;
mod awaitable;
mod bare;
mod buffer;
mod bytearray;
mod call;
mod callable;
#[cfg_attr(not(Py_3_12), expect(dead_code, reason = "nothing is carried"))]
mod carrier;
mod class;
mod close;
mod content;
mod context;
mod driven;
mod fields;
mod fill;
mod freelist;
mod growing;
mod guarded;
mod handled;
mod known;
mod letters;
mod made;
mod memory;
mod method;
mod object;
mod offer;
mod option;
mod outside;
mod plain;
mod private;
mod reach;
mod reachable;
mod refill;
mod socket;
mod stand_in;
mod state;
mod stay;
mod step;
mod stop;
mod unmade;
mod unseen;
mod visit;
mod wakeup;
mod window;

/// Whether Python is 3.13 or newer.
pub(crate) const SINCE_3_13: bool = cfg!(Py_3_13);
/// Whether Python is 3.15 or newer.
pub(crate) const SINCE_3_15: bool = cfg!(Py_3_15);

pub(crate) use arguments::{Arguments, value_of_int};
pub(crate) use attach::{
    TAKE_TURNS, borrow_fd, detached, is_alone, is_ending, is_first_interpreter,
    is_main_interpreter, thread_ident,
};
pub(crate) use attached::{Access, AttachedCell};
pub(crate) use attribute::Attribute;
pub(crate) use audit::{audit_event, audit_getaddrinfo, is_audited};
pub(crate) use awaitable::{Awaitable, Step, awaitable_slots, resume_other};
pub(crate) use bare::BareCall;
pub(crate) use buffer::{Bytes, KeptBytes, copy_into, fill_buffer};
pub(crate) use bytearray::{append, drop_front, look_at};
pub(crate) use call::{
    Call, INLINE_ARGS, call_in_full, call_method, call_with, call_with_names, with_context,
};
pub(crate) use callable::{Callable, Called, callable_slots};
pub(crate) use class::{Native, NativeClass, TypeSlot};
pub(crate) use close::{close_fd, own_fd};
pub(crate) use content::{Content, Unfilled, joined, recv_into_bytes};
pub(crate) use context::{CallContext, context_in, copy_context, freeze_context, learn_contexts};
pub(crate) use driven::{Driven, driven_methods};
pub(crate) use fields::AfterFields;
pub(crate) use fill::fill_bytes;
pub(crate) use freelist::MOST_KEPT;
pub(crate) use growing::Growing;
pub(crate) use handled::handling;
pub(crate) use known::Known;
pub(crate) use letters::{find_letter, letters_in, letters_of};
pub(crate) use made::{
    bytes_from, file_name_from, float_from, int_from, new_dict, new_list, signed_from, slice_from,
    text_from, tuple_from,
};
pub(crate) use memory::{
    caught, copied, make_room, room_for, spared, value_of, write_of_bugs_alone,
};
pub(crate) use method::{
    Getter, Method, MethodKind, Setter, attach_attribute, attach_methods, attach_property,
    raw_attached, raw_fastcall, raw_keywords, raw_noargs, raw_noargs_attached, raw_nothing,
    raw_onename,
};
pub(crate) use object::{Owned, Slot};
pub(crate) use offer::{Offered, Posted, capsule_of};
pub(crate) use once::{Interned, Once};
pub(crate) use option::{set_socket_option, socket_option};
pub(crate) use outside::{Outside, present_context};
pub(crate) use plain::{library_socket, plain_socket_fd};
pub(crate) use private::{
    Left, Private, Slots, has_no_others, is_ours_alone, reveal, take_private, without_context,
};
pub(crate) use reach::Reach;
pub(crate) use reachable::Reachable;
pub(crate) use refill::{bytes_again, cut_and_hold, unfilled_again};
pub(crate) use socket::Socket;
pub(crate) use stand_in::{StandIn, awaited_stand_in_slots, stand_in_slots};
pub(crate) use state::{
    class_version, generic_attribute, has_plain_attributes, instance_dict, replace_instance_dict,
    set_generic_attribute,
};
pub(crate) use stay::Stay;
pub(crate) use step::{TaskStep, task_step};
pub(crate) use unmade::freeze;
pub(crate) use unseen::learn_names;
pub(crate) use visit::{Shown, Visitor, traverse_with};
pub(crate) use wakeup::is_wakeup_of_task;
pub(crate) use window::Window;

/// Machinery that the method macros expand to.
pub(crate) mod raw {
    pub(crate) use super::method::{
        call_attached, call_fastcall, call_noargs, call_noargs_attached,
    };
}
