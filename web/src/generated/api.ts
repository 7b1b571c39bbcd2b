// Made by `web/api.mjs` of the document of `slotcast openapi`: not to be edited.

export interface paths {
    "/api/bookings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's own bookings; or, as staff of a site, all that is held, booked or blocked there on a day. 500 a page. */
        get: operations["list_bookings"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/broadcast": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send an event to every client on every node. */
        post: operations["broadcast"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/holds": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The caller's own live holds. */
        get: operations["list_holds"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/journal": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Who did what, in order within a space.
         * @description `after` takes `next` of the call before and misses no entry; after a loss of data in the store an entry may come again
         *     under the same `id`.
         */
        get: operations["read_journal"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document. */
        get: operations["read_openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Set several slots of one day as staff, all or none. */
        put: operations["update_slots"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/book": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Book several slots that the caller holds, all or none. */
        post: operations["book_slots"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/extend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Extend the holds of several slots, all or none. */
        post: operations["extend_slots"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/hold": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Hold several slots of one day, all or none. */
        post: operations["hold_slots"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/release": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Release several slots that the caller holds, or as staff booked ones, all or none. */
        post: operations["release_slots"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{idSpazio}/{date}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The board of a day. */
        get: operations["read_board"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Set a slot as staff. */
        put: operations["update_slot"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{id}/book": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Book one slot that the caller holds. */
        post: operations["book_slot"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{id}/extend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Extend the hold of one slot. */
        post: operations["extend_slot"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{id}/hold": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Hold one slot. */
        post: operations["hold_slot"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/slots/{id}/release": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Release one slot that the caller holds, or as staff a booked one. */
        post: operations["release_slot"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/spaces": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The registered spaces, 500 a page. */
        get: operations["list_spaces"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/spaces/{sedeId}/{idSpazio}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A space's schedule. */
        get: operations["read_space"];
        /** Register a space, or change its schedule. */
        put: operations["put_space"];
        post?: never;
        /** Remove a space's registration; its version stays. */
        delete: operations["delete_space"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/spaces/{sedeId}/{idSpazio}/broadcast": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send a day's board to the space's room. */
        post: operations["show_board"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/spaces/{sedeId}/{idSpazio}/changes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What changed in a space after a version. */
        get: operations["list_changes"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/stats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is connected, on the whole cluster. */
        get: operations["read_stats"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/sweep": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Free once what has ended: for a scheduler, where nodes free nothing by themselves.
         * @description After 20 s it answers what it did, and leaves the rest to the next sweep.
         */
        post: operations["sweep"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/users/{id}/data": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * All that is kept under a user's id, for the user and for staff of all sites.
         * @description It comes in portions: `after` takes `next` of the one before, and the last one has none.
         */
        get: operations["export_user"];
        put?: never;
        post?: never;
        /**
         * Erase a user.
         * @description Releases what the user holds, forgets notifications and remembered calls, and gives past bookings and the journal's entries
         *     to a random id. After a 503, repeat it: it goes on where it stopped.
         */
        delete: operations["erase_user"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/users/{id}/disconnect": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Close the sockets that a user has now, on all nodes. */
        post: operations["disconnect_user"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/users/{id}/notify": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Notify one user, now or when the user is back. */
        post: operations["notify_user"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Whether the node is alive: the store was reached once since its start. */
        get: operations["check_alive"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Whether the node is ready to serve: the store can be reached now and does all that it must, the feed is in step, and
         *     the node is not draining.
         */
        get: operations["check_ready"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The slots of one day. */
        AffectedDay: {
            /**
             * Format: date
             * @description The local day.
             */
            date: string;
            /** @description Ascending. */
            slots: number[];
        };
        /** @description The board of a day. */
        Board: {
            /** @description How many slots the day has. */
            count: number;
            /** Format: date */
            date: string;
            epoch: string;
            /** Format: int64 */
            idSpazio: number;
            /** Format: int64 */
            sedeId: number;
            slots: components["schemas"]["BoardSlot"][];
            /**
             * @description The IANA name of the space's time zone.
             * @example Europe/Rome
             */
            timeZone: string;
            /**
             * Format: date-time
             * @description The store's time of the read.
             */
            timestamp: string;
            /** Format: int64 */
            version: number;
        };
        /** @description A board that is on its way to the room of its space. */
        BoardShownAnswer: {
            /**
             * Format: date
             * @description The local day.
             */
            date: string;
            /**
             * Format: int64
             * @description The space.
             */
            idSpazio: number;
            /**
             * Format: int64
             * @description Its site.
             */
            sedeId: number;
        };
        /** @description One slot of a board, with the members of staff's `data` besides these. */
        BoardSlot: {
            /**
             * Format: date-time
             * @description Where the caller booked it: until when the caller can cancel it, `null` for never.
             */
            cancelUntil?: string | null;
            /**
             * Format: date-time
             * @description When it ends, UTC.
             */
            endsAt: string;
            /**
             * Format: date-time
             * @description While it is occupied: the hold's end again, under another name.
             */
            expires_at?: string | null;
            /**
             * Format: date-time
             * @description While the caller holds it: the latest end that it can be extended to.
             */
            extendableUntil?: string | null;
            /**
             * Format: date-time
             * @description While the caller holds it: when the hold began.
             */
            heldAt?: string | null;
            /**
             * Format: date-time
             * @description While it is occupied: the hold's end.
             */
            held_until?: string | null;
            /** @description While the caller holds it: what to present to book, release or extend it. */
            holdToken?: string | null;
            /** Format: int32 */
            id_slot: number;
            /** @description Only for staff: who holds or booked it; a number if the id is one, otherwise text. */
            id_utente?: number | string;
            /** @description `true` on the caller's own slots; only these have the four members that follow. */
            mine?: boolean | null;
            /**
             * Format: int64
             * @description While it is occupied: whole minutes until its end, rounded up.
             */
            minutes_remaining?: number | null;
            /**
             * @description Its local start, `HH:MM`.
             * @example 09:00
             */
            orario: string;
            /**
             * Format: date-time
             * @description When it starts, UTC: tells two slots apart that start at one local time.
             */
            startsAt: string;
            status: string;
            /** @example Slot disponibile */
            title: string;
        } & {
            [key: string]: unknown;
        };
        /** @description The caller's own bookings, a page of them. */
        BookingsAnswer: {
            /** @description In order of their start. */
            bookings: components["schemas"]["OwnBooking"][];
            /** @description What `after` takes for the next page; left out on the last one. */
            next?: string | null;
        };
        /** @description What `GET /api/bookings` answers: one's own, or what staff see of a site's day. */
        BookingsBody: components["schemas"]["BookingsAnswer"] | components["schemas"]["DayBookings"];
        /** @description A message to everyone that is on its way. */
        BroadcastAnswer: {
            /** @description The event's name. */
            event: string;
        };
        /** @description One change of a space. */
        ChangeEntry: {
            /**
             * @description `slot_update` or `space_changed`.
             * @example slot_update
             */
            event: string;
            /** @description What clients received; `null` for `space_changed`. */
            payload: {
                [key: string]: unknown;
            } | null;
            /**
             * Format: int64
             * @description Its version.
             */
            version: number;
        };
        /** @description What changed, and where that leads. */
        ChangesAnswer: {
            /** @description Ascending, without a gap. */
            changes: components["schemas"]["ChangeEntry"][];
            /** @description The space's epoch. */
            epoch: string;
            /**
             * Format: int64
             * @description The version of the last change, or the one asked about when nothing changed since.
             */
            version: number;
        };
        /** @description Days without slots: one day, a stretch of days, or a day of every week. */
        Closure: string | {
            /** Format: date */
            from: string;
            /** Format: date */
            to: string;
        } | {
            /** @enum {string} */
            weekday: "monday" | "tuesday" | "wednesday" | "thursday" | "friday" | "saturday" | "sunday";
        };
        /** @description One slot of a site's day. */
        DayBooking: {
            /**
             * Format: date-time
             * @description Where the caller booked it: until when the caller can cancel it, `null` for never.
             */
            cancelUntil?: string | null;
            /**
             * Format: date-time
             * @description When it ends, UTC.
             */
            endsAt: string;
            /**
             * Format: date-time
             * @description While it is occupied: the hold's end again, under another name.
             */
            expires_at?: string | null;
            /**
             * Format: date-time
             * @description While the caller holds it: the latest end that it can be extended to.
             */
            extendableUntil?: string | null;
            /**
             * Format: date-time
             * @description While the caller holds it: when the hold began.
             */
            heldAt?: string | null;
            /**
             * Format: date-time
             * @description While it is occupied: the hold's end.
             */
            held_until?: string | null;
            /** @description While the caller holds it: what to present to book, release or extend it. */
            holdToken?: string | null;
            /** Format: int32 */
            id_slot: number;
            /** @description Only for staff: who holds or booked it; a number if the id is one, otherwise text. */
            id_utente?: number | string;
            /** @description `true` on the caller's own slots; only these have the four members that follow. */
            mine?: boolean | null;
            /**
             * Format: int64
             * @description While it is occupied: whole minutes until its end, rounded up.
             */
            minutes_remaining?: number | null;
            /**
             * @description Its local start, `HH:MM`.
             * @example 09:00
             */
            orario: string;
            /** Format: int32 */
            slotId: number;
            /** Format: int64 */
            spazioId: number;
            /**
             * Format: date-time
             * @description When it starts, UTC: tells two slots apart that start at one local time.
             */
            startsAt: string;
            status: string;
            /** @example Slot disponibile */
            title: string;
        };
        /** @description All that is held, booked or blocked on a day of a site; a page of it. */
        DayBookings: {
            /** @description By space and slot, each an entry of a board besides. */
            entries: components["schemas"]["DayBooking"][];
            /** @description What `after` takes for the next page; left out on the last one. */
            next?: string | null;
        };
        /** @description A user whose sockets are being closed. */
        DisconnectedAnswer: {
            /** @description The user whose sockets are closed. */
            id_utente: number | string;
        };
        /** @description What was released before the user was erased, by this call. */
        ErasedAnswer: {
            /** @description Slots that the user had booked, and that had not started. */
            cancelled: number;
            /** @description Slots that the user held. */
            released: number;
        };
        /** @description The body of every failure. */
        ErrorBody: {
            /**
             * @description For programs.
             * @example slot_unavailable
             */
            code: string;
            /** @description The slots that stood in the way, ascending. */
            conflicts?: number[];
            /** @description For developers, English: what is wrong, and where. */
            detail: string;
            /** @description For people, Italian. */
            error: string;
            /** @description Of the journal's `gone`: what `after` takes to read everything that is kept. */
            next?: string | null;
            /** @description Always `false`. */
            success: boolean;
        };
        /** @description The live holds of a user. */
        HoldsAnswer: {
            /** @description In order of space and day. */
            holds: components["schemas"]["OwnHold"][];
        };
        /** @description Who did something. */
        JournalActor: {
            /** @description A number if the id is one, otherwise text; `null` if it is no longer known. */
            id: unknown;
            /** @description The staff role of the token. */
            role: string | null;
        };
        /** @description An entry of the journal. */
        JournalEntry: {
            /**
             * @description `hold`, `book`, `release`, `extend`, `expire` (a hold ended), `update` (staff), `cancel` (a booking was released),
             *     `space` (its schedule changed).
             */
            act: string;
            actor: components["schemas"]["JournalActor"] | null;
            /**
             * Format: date-time
             * @description When it was done.
             */
            at: string;
            /**
             * Format: date
             * @description The local day; missing for `space`.
             */
            date?: string | null;
            epoch: string;
            /** @description The same each time that it is read: `{epoch}-{sedeId}-{spazioId}-{version}`. */
            id: string;
            /** @description Who has the slots afterwards; for freed slots, who had them. */
            id_utente: number | string | null;
            /** @description The request's id. */
            requestId?: string | null;
            /** Format: int64 */
            sedeId: number;
            /** @description Ascending. */
            slots: number[];
            /** Format: int64 */
            spazioId: number;
            /** @description The new status of the slots; missing for `space`. */
            status?: string | null;
            /** @description From whom staff's act took slots. */
            taken?: components["schemas"]["JournalTaken"][] | null;
            /**
             * Format: int64
             * @description The version of the act's last event.
             */
            version: number;
        };
        /** @description A page of the journal, and where the next one begins. */
        JournalPage: {
            /** @description In order within a space. */
            entries: components["schemas"]["JournalEntry"][];
            /** @description Whether this call stopped before the end. */
            more: boolean;
            /** @description The cursor for `after`, even if there is no entry. */
            next: string;
        };
        /** @description Slots that were taken from somebody. */
        JournalTaken: {
            /** @description A number if the id is one, otherwise text; `null` if it is no longer known. */
            id_utente: number | string;
            slots: number[];
        };
        /** @description A call under an `Idempotency-Key`: the key and the call are kept as digests. */
        KeptCallBody: {
            /**
             * Format: date-time
             * @description When it was answered.
             */
            at: string;
            /** @description The position that it was answered. */
            epoch: string;
            /** Format: int64 */
            version: number;
        };
        /** @description A notification that is kept. */
        KeptNotification: {
            /** @description As it was sent. */
            data: unknown;
            event: string;
            /** Format: int64 */
            sequence: number;
        };
        /** @description How far a user's notifications have come. */
        KeptSequences: {
            /** Format: int64 */
            lastReceived: number;
            /** Format: int64 */
            lastSent: number;
        };
        /** @description A registered space. */
        ListedSpace: {
            /** @description Local time that no slot ends after, `HH:MM`. */
            closes: string;
            /**
             * Format: int32
             * @description How long holds last here, where that is not the configured duration.
             */
            holdMinutes?: number | null;
            /** @description A name for people. */
            name: string | null;
            /** @description Local time of the first slot's start, `HH:MM`. */
            opens: string;
            /**
             * Format: int64
             * @description The space's site.
             */
            sedeId: number;
            /**
             * Format: int32
             * @description The length of a slot.
             */
            slotMinutes: number;
            /**
             * Format: int64
             * @description The space.
             */
            spazioId: number;
            /** @description An IANA name. */
            timezone: string;
        };
        /** @description An event of the caller's own with its payload. */
        MessageRequest: {
            /** @description Any JSON, 16 KiB at most, passed on unchanged. */
            data: unknown;
            /** @description 1 to 128 bytes; names of Socket.IO and of this protocol are `reserved_event`. */
            event: string;
        };
        /** @description What one node has. */
        NodeStats: {
            /** @description Where other nodes reach it. */
            address: string;
            /** @description Random, new with each start. */
            id: string;
            /**
             * Format: int64
             * @description Rooms with members.
             */
            rooms: number;
            /**
             * Format: int64
             * @description Connected sockets.
             */
            sockets: number;
            /**
             * Format: date-time
             * @description When it started, RFC 3339.
             */
            startedAt: string;
            /**
             * Format: int64
             * @description Distinct users among them.
             */
            users: number;
            /** @description The version of the program. */
            version: string;
        };
        /** @description A notification that is on its way. */
        NotifiedAnswer: {
            /** @description The event's name. */
            event: string;
            /** @description The user who gets it. */
            id_utente: number | string;
        };
        /** @description One booked slot of the caller. */
        OwnBooking: {
            /**
             * Format: date-time
             * @description When it was booked; not known of what slotcast 0.1 stored.
             */
            bookedAt?: string | null;
            /**
             * Format: date-time
             * @description Until when the caller can cancel it; `null` for never.
             */
            cancelUntil: string | null;
            /**
             * Format: date
             * @description The local day.
             */
            date: string;
            /**
             * Format: date-time
             * @description When it ends, UTC.
             */
            endsAt: string;
            /**
             * @description Its local start, `HH:MM`.
             * @example 09:00
             */
            orario: string;
            /**
             * Format: int64
             * @description The space's site.
             */
            sedeId: number;
            /**
             * Format: int32
             * @description The slot.
             */
            slotId: number;
            /**
             * Format: int64
             * @description The space.
             */
            spazioId: number;
            /**
             * Format: date-time
             * @description When it starts, UTC.
             */
            startsAt: string;
        };
        /** @description One hold: the slots of one day under one token. */
        OwnHold: {
            /**
             * Format: date
             * @description The local day.
             */
            date: string;
            /**
             * Format: date-time
             * @description The same, under the name that boards use.
             */
            expires_at: string;
            /**
             * Format: date-time
             * @description The earliest end of its slots, RFC 3339.
             */
            heldUntil: string;
            /** @description What to present to book, release or extend it. */
            holdToken: string;
            /**
             * Format: int64
             * @description The space's site.
             */
            sedeId: number;
            /** @description Ascending. */
            slots: number[];
            /**
             * Format: int64
             * @description The space.
             */
            spazioId: number;
        };
        /** @description The health of a node. */
        ProbeBody: {
            /**
             * @description What is less than it could be, of `/readyz` where there is any: `store_unfenced`, the store cannot tell when it
             *     has lost writes; `record_unreadable: ...`, a slot that is shown as blocked until staff sets it anew.
             */
            notes?: string[];
            /**
             * @description What stands in the way: `store_unreachable`, `store_never_reached`, `feed_behind`, `store_rights_missing`,
             *     `store_cannot_subscribe`, `store_refuses_writes`, `store_server_away`, `data_file_gone`, `keys_unavailable`, `draining`.
             */
            obstacles: string[];
            /** @description The reasons, in words for the operator, if there are any. */
            reasons?: string[];
            /**
             * @description `ok` or `unavailable`.
             * @example ok
             */
            status: string;
        };
        /** @description Which board to send to the room. */
        ShowBoardRequest: {
            /**
             * Format: date
             * @description The local day, `YYYY-MM-DD`.
             */
            date: string;
        };
        /** @description One slot of one day, named elsewhere, to hold, book, release or extend. */
        SlotRequest: {
            /**
             * Format: date
             * @description The local day, `YYYY-MM-DD`.
             */
            date: string;
            /**
             * Format: int32
             * @description Hold and extend: a whole number from 1 to the duration of the space or else of the configuration, which is the default.
             */
            holdSeconds?: number | null;
            /** @description Book, release and extend: only if the hold is still the one with this token. */
            holdToken?: string | null;
            /** @description The space; `spazioId` is taken too. */
            idSpazio: number | string;
            /** @description Role `servizio`: the user to act for, a number or text. */
            id_utente?: number | string;
            /** @description The space's site. */
            sedeId: number | string;
        };
        /** @description The result of an act. */
        SlotsAnswer: {
            /** @description The space's epoch. */
            epoch: string;
            /**
             * Format: date-time
             * @description The same, under the name that boards use.
             */
            expires_at?: string;
            /**
             * Format: date-time
             * @description The earliest end of the held slots, RFC 3339.
             */
            heldUntil?: string;
            /** @description What its owner presents to book, release or extend. */
            holdToken?: string;
            /**
             * Format: int32
             * @description The one slot of a call about one slot.
             */
            slotId?: number;
            /** @description Ascending. */
            slots?: number[];
            /**
             * @description The new status of the slots.
             * @example occupied
             */
            status: string;
            /**
             * Format: int64
             * @description The version of the last event that the act caused.
             */
            version: number;
        };
        /** @description One or more slots of one day to hold, book, release or extend: all of them, or none. */
        SlotsRequest: {
            /**
             * Format: date
             * @description The local day, `YYYY-MM-DD`.
             */
            date: string;
            /**
             * Format: int32
             * @description Hold and extend: a whole number from 1 to the duration of the space or else of the configuration, which is the default.
             */
            holdSeconds?: number | null;
            /** @description Book, release and extend: only if the hold is still the one with this token. */
            holdToken?: string | null;
            /** @description The space; `spazioId` is taken too. */
            idSpazio: number | string;
            /** @description Role `servizio`: the user to act for, a number or text. */
            id_utente?: number | string;
            /** @description The space's site. */
            sedeId: number | string;
            /** @description 1 to 32 distinct numbers, in any order. */
            slots: number[];
        };
        /** @description A space as clients see it. */
        SpaceAnswer: {
            /** @description Local time that no slot ends after, `HH:MM`. */
            closes: string;
            /** @description Days without slots. */
            closures: components["schemas"]["Closure"][];
            /** @description The space's epoch. */
            epoch: string;
            /**
             * Format: int32
             * @description How long holds last here, and at most what `holdSeconds` may ask for, where that is not the configured duration.
             */
            holdMinutes?: number | null;
            /** @description A name for people. */
            name: string | null;
            /** @description Local time of the first slot's start, `HH:MM`. */
            opens: string;
            /** @description `false`: nobody registered it, and this is the default schedule. */
            registered: boolean;
            /**
             * Format: int64
             * @description The space's site.
             */
            sedeId: number;
            /**
             * Format: int32
             * @description The length of a slot.
             */
            slotMinutes: number;
            /**
             * Format: int64
             * @description The space.
             */
            spazioId: number;
            /** @description An IANA name. */
            timezone: string;
            /**
             * Format: int64
             * @description Where the space stands.
             */
            version: number;
        };
        /** @description The space as it is after a change; or, with `dryRun=true`, what the change would move or remove. */
        SpaceOrTrial: components["schemas"]["SpaceAnswer"] | components["schemas"]["TrialAnswer"];
        /** @description A space's schedule; what is left out has the default's value. */
        SpaceRequest: {
            /** @description Local time that no slot ends after, `HH:MM`, up to `24:00`. Default: "18:00". */
            closes?: string | null;
            /** @description `"2026-12-25"`, `{"from": "2026-08-10", "to": "2026-08-21"}` or `{"weekday": "sunday"}`; 1,000 at most. */
            closures?: components["schemas"]["Closure"][] | null;
            /**
             * Format: int32
             * @description How long holds last here and the most that `holdSeconds` may ask for, up to `SLOT_HOLD_MAX`; without it the configured
             *     duration.
             */
            holdMinutes?: number | null;
            /** @description A name for people, 200 bytes at most. */
            name?: string | null;
            /** @description Local time of the first slot's start, `HH:MM`. Default: "09:00". */
            opens?: string | null;
            /**
             * Format: int32
             * @description The length of a slot. Default: 60.
             */
            slotMinutes?: number | null;
            /** @description An IANA name. Default: "Europe/Rome". */
            timezone?: string | null;
        };
        /** @description One page of the registered spaces. */
        SpacesAnswer: {
            /** @description What `after` takes for the next page; left out on the last one. */
            next?: string | null;
            /** @description By site and number. */
            spaces: components["schemas"]["ListedSpace"][];
        };
        /** @description Who is connected now. */
        StatsAnswer: {
            /**
             * Format: int64
             * @description The sum of the distinct users of each node.
             */
            connectedUsers: number;
            /** @description This node first; the others as they told at most two seconds ago. */
            nodes: components["schemas"]["NodeStats"][];
            /**
             * Format: int64
             * @description How many rooms have members.
             */
            roomCount: number;
            /** @description The names of the first 1,000 rooms, sorted. */
            rooms: string[];
            /**
             * Format: int64
             * @description Connected sockets.
             */
            totalSockets: number;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_Board: {
            data: components["schemas"]["Board"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_BoardShownAnswer: {
            data: components["schemas"]["BoardShownAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_BookingsBody: {
            data: components["schemas"]["BookingsBody"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_BroadcastAnswer: {
            data: components["schemas"]["BroadcastAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_ChangesAnswer: {
            data: components["schemas"]["ChangesAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_DisconnectedAnswer: {
            data: components["schemas"]["DisconnectedAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_ErasedAnswer: {
            data: components["schemas"]["ErasedAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_HoldsAnswer: {
            data: components["schemas"]["HoldsAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_JournalPage: {
            data: components["schemas"]["JournalPage"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_NotifiedAnswer: {
            data: components["schemas"]["NotifiedAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_SlotsAnswer: {
            data: components["schemas"]["SlotsAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_SpaceAnswer: {
            data: components["schemas"]["SpaceAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_SpaceOrTrial: {
            data: components["schemas"]["SpaceOrTrial"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_SpacesAnswer: {
            data: components["schemas"]["SpacesAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_StatsAnswer: {
            data: components["schemas"]["StatsAnswer"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_SweepReport: {
            data: components["schemas"]["SweepReport"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description `200 OK` with `{success: true, data}`. */
        Success_UserData: {
            data: components["schemas"]["UserData"];
            /** @description Always `true`. */
            success: boolean;
        };
        /** @description The report of a sweep. */
        SweepReport: {
            /**
             * Format: int64
             * @description How many holds were freed.
             */
            freed: number;
            /**
             * Format: int64
             * @description How late the oldest was freed, in milliseconds.
             */
            oldestLateMs: number;
            /**
             * Format: int64
             * @description How many spaces these holds were in.
             */
            spaces: number;
            /**
             * Format: int64
             * @description How long the sweep took, in milliseconds.
             */
            tookMs: number;
        };
        /** @description What a change would do to slots that somebody has. */
        TrialAnswer: {
            /**
             * @description The occupied, booked and blocked slots of the future that would move or go, by day. Where there are any, the change is
             *     `space_in_use`.
             */
            affected: components["schemas"]["AffectedDay"][];
        };
        /** @description What staff sets a slot to. */
        UpdateRequest: {
            /** @description An object that stays with the slot until its next change, 16 KiB of JSON at most. */
            data?: {
                [key: string]: unknown;
            } | null;
            /**
             * Format: date
             * @description The local day, `YYYY-MM-DD`.
             */
            date: string;
            /** @description The space; `spazioId` is taken too. */
            idSpazio: number | string;
            /** @description With `booked`: the user of the booking, a number or text. Another user who had the slot loses it. Without it a booking keeps its user. */
            id_utente?: number | string;
            /** @description The space's site. */
            sedeId: number | string;
            /** @description `available`, `booked` or `blocked`. */
            status: string;
        };
        /** @description What staff sets several slots to. */
        UpdatesRequest: {
            /** @description An object that stays with each slot until its next change, 16 KiB of JSON at most. */
            data?: {
                [key: string]: unknown;
            } | null;
            /**
             * Format: date
             * @description The local day, `YYYY-MM-DD`.
             */
            date: string;
            /** @description The space; `spazioId` is taken too. */
            idSpazio: number | string;
            /** @description With `booked`: the user of the booking, a number or text. */
            id_utente?: number | string;
            /** @description The space's site. */
            sedeId: number | string;
            /** @description 1 to 32 distinct numbers, in any order. */
            slots: number[];
            /** @description `available`, `booked` or `blocked`. */
            status: string;
        };
        /** @description A portion of all that is kept under a user's id. */
        UserData: {
            /** @description Bookings in order of their start, past and future; 500 a portion. */
            bookings: components["schemas"]["OwnBooking"][];
            /** @description Calls that are remembered under an `Idempotency-Key`; in the first portion. */
            calls: components["schemas"]["KeptCallBody"][];
            /** @description Live holds, one entry a token; in the first portion. */
            holds: components["schemas"]["OwnHold"][];
            /** @description The user's id: a number if it is one, otherwise text. */
            id_utente: number | string;
            /** @description Entries of the journal that name the user, in order within a space; other people's ids are `null`. */
            journal: components["schemas"]["JournalEntry"][];
            /** @description What `after` takes for the next portion; left out in the last one. */
            next?: string | null;
            /** @description Notifications that are kept for the user, received or not; in the first portion. */
            notifications: components["schemas"]["KeptNotification"][];
            sequences?: components["schemas"]["KeptSequences"] | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    list_bookings: {
        parameters: {
            query?: {
                /** @description Own bookings: the first day, `YYYY-MM-DD`. Without it and `to`, from today on. */
                from?: string;
                /** @description Own bookings: the last day. */
                to?: string;
                /** @description As staff, with `date`: all that somebody has in this site. */
                sedeId?: number | string;
                /** @description As staff, with `sedeId`: on this day. */
                date?: string;
                /** @description `next` of the page before. */
                after?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_BookingsBody"];
                };
            };
        };
    };
    broadcast: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MessageRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_BroadcastAnswer"];
                };
            };
        };
    };
    list_holds: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_HoldsAnswer"];
                };
            };
        };
    };
    read_journal: {
        parameters: {
            query?: {
                /** @description Only entries of this site. Without it, entries of all sites of the token. */
                sedeId?: number | string;
                /** @description Only entries of spaces with this id. */
                spazioId?: number | string;
                /** @description Only entries of this user, who has or had the slots, or lost them to staff. */
                id_utente?: number | string;
                /**
                 * @description Only entries of these acts, separated by commas: `hold`, `book`, `release`, `extend`, `expire`, `update`, `cancel`, `space`.
                 * @example book,cancel
                 */
                act?: string;
                /**
                 * @description Only entries from this day (UTC) on, or from this instant (RFC 3339) on.
                 * @example 2026-11-30
                 */
                from?: string;
                /**
                 * @description Only entries up to the end of this day (UTC), or before this instant (RFC 3339).
                 * @example 2026-11-30
                 */
                to?: string;
                /** @description `next` of an earlier call. The answer begins after it. */
                after?: string;
                /** @description How many entries at most. */
                limit?: number;
                /** @description How many seconds to wait for the first entry. */
                wait?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_JournalPage"];
                };
            };
        };
    };
    read_openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    update_slots: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["UpdatesRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    book_slots: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotsRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    extend_slots: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotsRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    hold_slots: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotsRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    release_slots: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotsRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    read_board: {
        parameters: {
            query?: {
                /** @description May be left out if exactly one registered space has this id. */
                sedeId?: number | string;
            };
            header?: never;
            path: {
                /** @description The space */
                idSpazio: number | string;
                /** @description The local day, `YYYY-MM-DD` */
                date: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_Board"];
                };
            };
        };
    };
    update_slot: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path: {
                /** @description The slot's number */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["UpdateRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    book_slot: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path: {
                /** @description The slot's number */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    extend_slot: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path: {
                /** @description The slot's number */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    hold_slot: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path: {
                /** @description The slot's number */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    release_slot: {
        parameters: {
            query?: never;
            header?: {
                /** @description 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer. */
                "Idempotency-Key"?: string | null;
            };
            path: {
                /** @description The slot's number */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SlotRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SlotsAnswer"];
                };
            };
        };
    };
    list_spaces: {
        parameters: {
            query?: {
                /** @description Only those of this site. */
                sedeId?: number | string;
                /** @description `next` of the page before. */
                after?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SpacesAnswer"];
                };
            };
        };
    };
    read_space: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The site */
                sedeId: number | string;
                /** @description The space */
                idSpazio: number | string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SpaceAnswer"];
                };
            };
        };
    };
    put_space: {
        parameters: {
            query?: {
                /** @description `true`: changes nothing, and answers what the change would move or remove. */
                dryRun?: boolean;
            };
            header?: never;
            path: {
                /** @description The site */
                sedeId: number | string;
                /** @description The space */
                idSpazio: number | string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SpaceRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SpaceOrTrial"];
                };
            };
        };
    };
    delete_space: {
        parameters: {
            query?: {
                /** @description `true`: changes nothing, and answers what the change would move or remove. */
                dryRun?: boolean;
            };
            header?: never;
            path: {
                /** @description The site */
                sedeId: number | string;
                /** @description The space */
                idSpazio: number | string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What it was */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SpaceOrTrial"];
                };
            };
        };
    };
    show_board: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The site */
                sedeId: number | string;
                /** @description The space */
                idSpazio: number | string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ShowBoardRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_BoardShownAnswer"];
                };
            };
        };
    };
    list_changes: {
        parameters: {
            query: {
                /** @description The epoch of the version. */
                epoch: string;
                /** @description The last version that the caller knows. */
                version: number;
            };
            header?: never;
            path: {
                /** @description The site */
                sedeId: number | string;
                /** @description The space */
                idSpazio: number | string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_ChangesAnswer"];
                };
            };
        };
    };
    read_stats: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_StatsAnswer"];
                };
            };
        };
    };
    sweep: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_SweepReport"];
                };
            };
        };
    };
    export_user: {
        parameters: {
            query?: {
                /** @description `next` of the portion before. */
                after?: string;
            };
            header?: never;
            path: {
                /** @description The user */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_UserData"];
                };
            };
        };
    };
    erase_user: {
        parameters: {
            query?: {
                /** @description Cancel bookings that have not started. */
                force?: boolean;
            };
            header?: never;
            path: {
                /** @description The user */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_ErasedAnswer"];
                };
            };
        };
    };
    disconnect_user: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_DisconnectedAnswer"];
                };
            };
        };
    };
    notify_user: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MessageRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Success_NotifiedAnswer"];
                };
            };
        };
    };
    check_alive: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProbeBody"];
                };
            };
        };
    };
    check_ready: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProbeBody"];
                };
            };
        };
    };
}
