from tests.contract.whole_platform import Whole
pytest_plugins = ["tests.contract.whole_fixtures"]
async def test_x(whole: Whole):
    shop = await whole.tenant()
    for t,tok in (("iOSPush","ab"*32),("AndroidPush","x"),("Email","a@example.com"),("SMS","+821012345678"),("KakaoTalk","+821012345678"),("InAppMessage","device-1"),("WebPush",'{"endpoint":"https://push.example.com/1","keys":{"p256dh":"BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM","auth":"tBHItJI5svbpez7KI4CCXg"}}')):
        s = await shop.post("/subscriptions", {"type":t,"token":tok})
        m = await shop.post("/messages", {"subscription_id": s.body.get("data",{}).get("subscription_id",""), "title":"x"}) if s.status==201 else None
        print("ZZ",t,s.status,s.body if s.status!=201 else "", m and m.status, m and m.body.get("error"))
    r = await shop.post("/users/identify", {"external_id":"u"}); print("ZZ identify", r.status, r.body)
    a = await shop.post("/subscriptions", {"type":"iOSPush","token":"cd"*32}, headers={"Idempotency-Key":"k1"}); print("ZZ",a.data)
    l = await shop.get("/subscriptions"); print("ZZ", [(x["id"][:8],x["type"],x["created_at"]) for x in l.data["subscriptions"]])
    r = await shop.get("/messages?from="); print("ZZ", r.status)
    async with whole.session.get("/api/v1/messages", headers={"If-None-Match":"\x7f"}) as x: print("ZZ", x.status, await x.text(), dict(x.headers))
