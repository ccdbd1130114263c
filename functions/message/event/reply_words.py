"""The words by which mail programs introduce a quoted mail, in the languages of their users.

All are in lower case. A verb ends an attribution (`On Monday Ann wrote:`), an opener begins one; labels
begin the lines of the header that Outlook puts above a quoted mail.
"""

from __future__ import annotations

from typing import Final

VERBS: Final = (
    *(
        "wrote",
        "writes",
        "said",
        "schrieb",
        "schreibt",
        "geschrieben",
        "a écrit",
        "escribió",
        "escribio",
        "ha escrito",
    ),
    *("ha scritto", "escreveu", "schreef", "skrev", "kirjoitti", "napisał", "napisała", "napisał(a)"),
    *(
        "napsal",
        "napsal(a)",
        "napísal",
        "napísal(a)",
        "ezt írta",
        "írta",
        "a scris",
        "yazdı",
        "şunları yazdı",
    ),
    *("написал", "написал(а)", "написала", "пишет", "пише", "написав", "έγραψε", "написа", "je napisao"),
    *("je napisao/la", "napisao je", "va escriure", "kirjutas", "rašė", "rakstīja", "đã viết", "menulis"),
    *("さんは書きました", "さんが書きました", "写道", "寫道", "님이 작성", "כתב", "כתב/ה", "كتب", "เขียนว่า"),
)

OPENERS: Final = (
    *("on ", "am ", "le ", "el ", "il ", "em ", "op ", "den ", "de ", "dne ", "dňa ", "w dniu ", "dnia "),
    *("pe ", "în ", "la ", "vào ", "pada ", "på ", "at ", "el día ", "в ", "στις ", "na ", "dana ", "kl "),
    *("quoting ", "zitat von ", "citando ", "am: ", "pt., ", "pon., ", "wt., ", "śr., ", "czw., ", "sob., "),
    *(
        "пн, ",
        "вт, ",
        "ср, ",
        "чт, ",
        "пт, ",
        "сб, ",
        "вс, ",
        "ma ",
        "ti ",
        "ke ",
        "to ",
        "pe ",
        "la ",
        "su ",
    ),
)

ORIGINAL: Final = (
    *("original message", "original appointment", "originalnachricht", "original-nachricht"),
    *("ursprüngliche nachricht", "message d'origine", "message d’origine", "message original"),
    *("mensaje original", "messaggio originale", "mensagem original", "oorspronkelijk bericht"),
    *("ursprungligt meddelande", "oprindelig meddelelse", "opprinnelig melding", "alkuperäinen viesti"),
    *("wiadomość oryginalna", "oryginalna wiadomość", "původní zpráva", "pôvodná správa", "eredeti üzenet"),
    *("mesaj original", "özgün ileti", "orijinal mesaj", "исходное сообщение", "оригінальне повідомлення"),
    *(
        "αρχικό μήνυμα",
        "missatge original",
        "reply message",
        "原始邮件",
        "原始郵件",
        "元のメッセージ",
        "원본 메시지",
    ),
)

FORWARDED: Final = (
    *("forwarded message", "begin forwarded message", "forwarded by", "weitergeleitete nachricht"),
    *("message transféré", "message transmis", "mensaje reenviado", "messaggio inoltrato"),
    *("mensagem encaminhada", "doorgestuurd bericht", "vidarebefordrat meddelande"),
    *("videresendt meddelelse", "wiadomość przekazana", "przekazana wiadomość", "přeposlaná zpráva"),
    *(
        "пересылаемое сообщение",
        "пересланное сообщение",
        "转发的邮件",
        "転送されたメッセージ",
        "전달된 메시지",
    ),
    *("anfang der weitergeleiteten", "début du message réexpédié", "inizio messaggio inoltrato"),
)

FROM: Final = (
    *("from", "von", "de", "da", "van", "fra", "från", "lähettäjä", "od", "feladó", "kimden", "gönderen"),
    *("от", "від", "από", "发件人", "寄件者", "寄件人", "差出人", "보낸 사람", "מאת", "من", "dari", "từ"),
)

OTHERS: Final = (
    *("sent", "date", "to", "subject", "cc", "gesendet", "datum", "an", "betreff", "envoyé", "à", "objet"),
    *("enviado", "enviado el", "fecha", "para", "asunto", "inviato", "data", "a", "oggetto", "assunto"),
    *("verzonden", "aan", "onderwerp", "skickat", "till", "ämne", "sendt", "til", "emne", "lähetetty"),
    *("päivämäärä", "vastaanottaja", "aihe", "wysłano", "wysłane", "do", "temat", "odesláno", "komu"),
    *(
        "předmět",
        "odoslané",
        "predmet",
        "elküldve",
        "dátum",
        "címzett",
        "tárgy",
        "trimis",
        "către",
        "subiect",
    ),
    *("gönderildi", "tarih", "kime", "konu", "отправлено", "дата", "кому", "тема", "надіслано", "στάλθηκε"),
    *(
        "ημερομηνία",
        "προς",
        "θέμα",
        "发送时间",
        "日期",
        "收件人",
        "主题",
        "寄件日期",
        "傳送時間",
        "收件者",
        "主旨",
    ),
    *(
        "送信日時",
        "日付",
        "宛先",
        "件名",
        "보낸 날짜",
        "날짜",
        "받는 사람",
        "제목",
        "dikirim",
        "kepada",
        "subjek",
    ),
)

FORWARDS: Final = ("fw", "fwd", "wg", "tr", "rv", "i", "enc", "doorst", "vs", "vb", "pd", "转发", "轉寄")
"""What a mail program puts before the subject of a forwarded mail."""

SIGNATURES: Final = (
    *(
        "sent from my ",
        "sent from mail for",
        "sent with proton",
        "sent from outlook",
        "get outlook for ",
        "von meinem ",
        "gesendet mit der ",
    ),
    *("envoyé de mon ", "envoyé depuis mon ", "enviado desde mi ", "inviato da ", "enviado do meu "),
    *("verstuurd vanaf mijn ", "verzonden vanaf mijn ", "skickat från min ", "sendt fra min "),
    *("wysłane z ", "отправлено с ", "iphoneから送信", "发自我的", "從我的", "나의 iphone에서 보냄"),
)
"""How the line begins that a phone adds below a text."""
