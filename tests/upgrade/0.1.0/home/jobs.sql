BEGIN TRANSACTION;
CREATE TABLE auto_device (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        device TEXT NOT NULL
    ) STRICT;
INSERT INTO "auto_device" VALUES(1,'cpu');
CREATE TABLE engines (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_created REAL NOT NULL,
        ready INTEGER NOT NULL DEFAULT 0,
        deadline_at REAL NOT NULL
    , loaded TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "engines" VALUES(4,'cpu',14242,1795816972.69,1,1.79582060301998972895e+09,'{"generator":["tiny-wan","fp8"],"captioner":null}');
CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        request_id TEXT UNIQUE,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        plan TEXT NOT NULL,
        progress TEXT,
        error TEXT,
        artifacts TEXT NOT NULL DEFAULT '[]',
        caption TEXT,
        notes TEXT NOT NULL DEFAULT '[]',
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        device TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        deaths INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        updated_at REAL,
        finished_at REAL
    ) STRICT;
INSERT INTO "jobs" VALUES(1,'pv4kydb4v5v6dztpbmtw',NULL,'{"kind":"image","prompt":"a green ring on a white background","negative_prompt":null,"model":null,"preset":null,"image":null,"strength":null,"resolution":null,"steps":4,"guidance_scale":null,"seed":7,"style":"chalk","lora":[],"count":2}','succeeded','{"task":"text-to-image","model":"wan-mini","preset":null,"prompt":"a green ring on a white background, drawn with chalk","prompt_asked":"a green ring on a white background","negative_prompt":"","style":"chalk","lora":[],"width":128,"height":128,"steps":4,"guidance_scale":3.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":64,"even_at":1792,"seed":7,"count":2,"image":null,"notes":[],"kind":"image","strength":null}','{"stage":"decoding","step":null,"steps":null,"item":2,"items":2,"fraction":0.925,"eta_s":null,"detail":""}',NULL,'[{"uri":"wan://images/pv4kydb4v5v6dztpbmtw-0.png","mime_type":"image/png","bytes":10051,"width":128,"height":128,"frames":null,"fps":null,"duration_s":null,"seed":7,"path":"@USER@/wan/media/images/pv4kydb4v5v6dztpbmtw-0.png"},{"uri":"wan://images/pv4kydb4v5v6dztpbmtw-1.png","mime_type":"image/png","bytes":10253,"width":128,"height":128,"frames":null,"fps":null,"duration_s":null,"seed":8,"path":"@USER@/wan/media/images/pv4kydb4v5v6dztpbmtw-1.png"}]',NULL,'[]',0,'cpu',1,0,1.79581693399499487881e+09,1.79581694155032682417e+09,1.79581695595687246321e+09,1.79581695604518747329e+09);
INSERT INTO "jobs" VALUES(2,'ry1wjme3fracd3eaxn4r',NULL,'{"kind":"video","prompt":"a green circle grows","negative_prompt":null,"model":null,"preset":null,"image":"@USER@/Pictures/start.png","last_image":null,"resolution":null,"duration_s":null,"num_frames":5,"steps":4,"guidance_scale":null,"guidance_scale_2":null,"turbo":null,"seed":7,"style":null,"lora":[],"count":1}','succeeded','{"task":"image-to-video","model":"wan-mini","preset":null,"prompt":"a green circle grows","prompt_asked":"a green circle grows","negative_prompt":"","style":null,"lora":[],"width":128,"height":128,"steps":4,"guidance_scale":3.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":128,"even_at":1792,"seed":7,"count":1,"image":{"sha256":"f64d69bc610de97f38988fe652040530adb1ad4783411db0c5767c1585cc4fba","file":"media/inputs/f64d69bc610de97f38988fe652040530adb1ad4783411db0c5767c1585cc4fba.png","width":128,"height":128,"source":"@USER@/Pictures/start.png"},"notes":[],"kind":"video","num_frames":5,"fps":8.0,"duration_s":0.625,"guidance_scale_2":null,"last_image":null}','{"stage":"writing","step":null,"steps":null,"item":1,"items":1,"fraction":0.9511,"eta_s":0.09,"detail":""}',NULL,'[{"uri":"wan://videos/ry1wjme3fracd3eaxn4r-0.mp4","mime_type":"video/mp4","bytes":9634,"width":128,"height":128,"frames":5,"fps":8.0,"duration_s":0.625,"seed":7,"path":"@USER@/wan/media/videos/ry1wjme3fracd3eaxn4r-0.mp4"}]',NULL,'[]',0,'cpu',1,0,1.79581695744557380675e+09,1.79581695745883727077e+09,1.79581695880516195289e+09,1.795816958861287117e+09);
INSERT INTO "jobs" VALUES(3,'teqmvw0t00rbe4rtnk1w',NULL,'{"kind":"caption","image":"@USER@/Pictures/start.png","model":null,"caption_type":null,"length":null,"prompt":null,"extra_options":[],"seed":null}','succeeded','{"kind":"caption","task":"image-to-text","model":"wan-mini-caption","image":{"sha256":"f64d69bc610de97f38988fe652040530adb1ad4783411db0c5767c1585cc4fba","file":"media/inputs/f64d69bc610de97f38988fe652040530adb1ad4783411db0c5767c1585cc4fba.png","width":128,"height":128,"source":"@USER@/Pictures/start.png"},"caption_type":null,"length":null,"prompt":null,"max_new_tokens":40,"extra_options":[],"seed":null,"notes":[]}','{"stage":"encoding","step":null,"steps":null,"item":1,"items":1,"fraction":0.1765,"eta_s":null,"detail":""}',NULL,'[]','a large green circle on a white background','[]',0,'cpu',1,0,1.79581696077355766291e+09,1.79581696079774188988e+09,1.79581696135020613667e+09,1.79581696152198672295e+09);
INSERT INTO "jobs" VALUES(4,'ypbqewchtx888bn8rqh8',NULL,'{"kind":"caption","image":"wan://images/pv4kydb4v5v6dztpbmtw-0.png","model":"florence-2-base","caption_type":null,"length":null,"prompt":null,"extra_options":[],"seed":null}','failed','{"kind":"caption","task":"image-to-text","model":"florence-2-base","image":{"sha256":"7f5c03f04e503a696197f991e71698a3c57bfddf5cbd3a7e7d82c079d7f81f63","file":"media/inputs/7f5c03f04e503a696197f991e71698a3c57bfddf5cbd3a7e7d82c079d7f81f63.png","width":128,"height":128,"source":"wan://images/pv4kydb4v5v6dztpbmtw-0.png"},"caption_type":null,"length":null,"prompt":"<DETAILED_CAPTION>","max_new_tokens":1024,"extra_options":[],"seed":null,"notes":[]}',NULL,'{"code":"model_not_local","message":"The weights of ''florence-2-base'' (florence-community/Florence-2-base) are not on this machine, and WAN_MCP_AUTO_DOWNLOAD is off: download them with ''wan-mcp pull florence-2-base'', or use another model."}','[]',NULL,'[]',0,'cpu',1,0,1.7958169635087308884e+09,1.79581696352123975756e+09,1.79581696352123975756e+09,1.79581696371239686008e+09);
INSERT INTO "jobs" VALUES(5,'qhxjst03h1n2t73eqc09',NULL,'{"kind":"video","prompt":"a red circle moves right","negative_prompt":null,"model":null,"preset":null,"image":null,"last_image":null,"resolution":null,"duration_s":null,"num_frames":33,"steps":50,"guidance_scale":null,"guidance_scale_2":null,"turbo":null,"seed":null,"style":null,"lora":[],"count":1}','cancelled','{"task":"text-to-video","model":"wan-mini","preset":null,"prompt":"a red circle moves right","prompt_asked":"a red circle moves right","negative_prompt":"","style":null,"lora":[],"width":128,"height":128,"steps":50,"guidance_scale":3.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":576,"even_at":1792,"seed":2041932970,"count":1,"image":null,"notes":[],"kind":"video","num_frames":33,"fps":8.0,"duration_s":4.125,"guidance_scale_2":null,"last_image":null}','{"stage":"denoising","step":1,"steps":50,"item":1,"items":1,"fraction":0.0188,"eta_s":61.64,"detail":""}',NULL,'[]',NULL,'[]',1,'cpu',1,0,1.79581696594496107105e+09,1.79581696596049666405e+09,1.79581696820028924939e+09,1.79581696820061898229e+09);
INSERT INTO "jobs" VALUES(6,'pax21zbjj8crpdkqd1h2',NULL,'{"kind":"image","prompt":"a blue square","negative_prompt":null,"model":"tiny-wan","preset":null,"image":null,"strength":null,"resolution":"small","steps":null,"guidance_scale":null,"seed":3,"style":null,"lora":[],"count":1}','succeeded','{"task":"text-to-image","model":"tiny-wan","preset":null,"prompt":"a blue square","prompt_asked":"a blue square","negative_prompt":"","style":null,"lora":[],"width":32,"height":32,"steps":30,"guidance_scale":5.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":4,"even_at":14300,"seed":3,"count":1,"image":null,"notes":[],"kind":"image","strength":null}','{"stage":"decoding","step":null,"steps":null,"item":1,"items":1,"fraction":0.85,"eta_s":null,"detail":""}',NULL,'[{"uri":"wan://images/pax21zbjj8crpdkqd1h2-0.png","mime_type":"image/png","bytes":3477,"width":32,"height":32,"frames":null,"fps":null,"duration_s":null,"seed":3,"path":"@USER@/wan/media/images/pax21zbjj8crpdkqd1h2-0.png"}]',NULL,'[]',0,'cpu',1,0,1795816973.12913,1.7958169785878272057e+09,1.79581699572831916811e+09,1.79581699584483933445e+09);
INSERT INTO "jobs" VALUES(7,'m9kxpx82k8d2tm0hpks6',NULL,'{"kind":"image","prompt":"a blue square","negative_prompt":null,"model":"tiny-wan","preset":null,"image":null,"strength":null,"resolution":"small","steps":8,"guidance_scale":null,"seed":4,"style":null,"lora":[{"name":"mine","path":null,"scale":0.5,"expert":null}],"count":1}','succeeded','{"task":"text-to-image","model":"tiny-wan","preset":null,"prompt":"a blue square","prompt_asked":"a blue square","negative_prompt":"","style":null,"lora":[{"name":"mine","file":"@USER@/wan/loras/mine.safetensors","sha256":"1634b6c3d9cbea5375041ca6fbf1d748acb5efcf142b8461427ba2c3bd184088","scale":0.5,"expert":null}],"width":32,"height":32,"steps":8,"guidance_scale":5.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":4,"even_at":14300,"seed":4,"count":1,"image":null,"notes":[],"kind":"image","strength":null}','{"stage":"denoising","step":6,"steps":8,"item":1,"items":1,"fraction":0.4989,"eta_s":0.25,"detail":""}',NULL,'[{"uri":"wan://images/m9kxpx82k8d2tm0hpks6-0.png","mime_type":"image/png","bytes":3571,"width":32,"height":32,"frames":null,"fps":null,"duration_s":null,"seed":4,"path":"@USER@/wan/media/images/m9kxpx82k8d2tm0hpks6-0.png"}]',NULL,'[]',0,'cpu',1,0,1.79581699875485849378e+09,1.79581699877267575264e+09,1.79581699938890528671e+09,1.79581699954103803638e+09);
INSERT INTO "jobs" VALUES(8,'dyfrv3xavhq9rextr4fm',NULL,'{"kind":"video","prompt":"a blue circle","negative_prompt":null,"model":"tiny-wan","preset":null,"image":null,"last_image":null,"resolution":"small","duration_s":null,"num_frames":17,"steps":300,"guidance_scale":null,"guidance_scale_2":null,"turbo":null,"seed":null,"style":null,"lora":[],"count":1}','running','{"task":"text-to-video","model":"tiny-wan","preset":null,"prompt":"a blue circle","prompt_asked":"a blue circle","negative_prompt":"","style":null,"lora":[],"width":32,"height":32,"steps":300,"guidance_scale":5.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":20,"even_at":14300,"seed":2035386975,"count":1,"image":null,"notes":[],"kind":"video","num_frames":17,"fps":8.0,"duration_s":2.125,"guidance_scale_2":null,"last_image":null}','{"stage":"denoising","step":5,"steps":300,"item":1,"items":1,"fraction":0.0184,"eta_s":18.11,"detail":""}',NULL,'[]',NULL,'[]',0,'cpu',1,0,1.7958170025578260422e+09,1.79581700257839226722e+09,1.79581700325651192661e+09,NULL);
INSERT INTO "jobs" VALUES(9,'394c58g0yk6xj7ksj4w0','evening-1','{"kind":"video","prompt":"a red square","negative_prompt":null,"model":"tiny-wan","preset":null,"image":null,"last_image":null,"resolution":"small","duration_s":null,"num_frames":null,"steps":6,"guidance_scale":null,"guidance_scale_2":null,"turbo":null,"seed":5,"style":null,"lora":[],"count":1}','queued','{"task":"text-to-video","model":"tiny-wan","preset":null,"prompt":"a red square","prompt_asked":"a red square","negative_prompt":"","style":null,"lora":[],"width":32,"height":32,"steps":6,"guidance_scale":5.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":8,"even_at":14300,"seed":5,"count":1,"image":null,"notes":[],"kind":"video","num_frames":5,"fps":8.0,"duration_s":0.625,"guidance_scale_2":null,"last_image":null}',NULL,NULL,'[]',NULL,'[]',0,NULL,0,0,1.79581701028097128871e+09,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(10,'v6ff3t0d1zs3wjk8x5qy',NULL,'{"kind":"image","prompt":"a blue circle","negative_prompt":null,"model":"tiny-wan","preset":null,"image":null,"strength":null,"resolution":"small","steps":6,"guidance_scale":null,"seed":6,"style":null,"lora":[],"count":1}','queued','{"task":"text-to-image","model":"tiny-wan","preset":null,"prompt":"a blue circle","prompt_asked":"a blue circle","negative_prompt":"","style":null,"lora":[],"width":32,"height":32,"steps":6,"guidance_scale":5.0,"turbo":false,"step_cache":null,"precision":"auto","tokens":4,"even_at":14300,"seed":6,"count":1,"image":null,"notes":[],"kind":"image","strength":null}',NULL,NULL,'[]',NULL,'[]',0,NULL,0,0,1.79581701485993719099e+09,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(11,'02gvgq85dk6e5sh040dh',NULL,'{"kind":"caption","image":"wan://images/pv4kydb4v5v6dztpbmtw-0.png","model":null,"caption_type":null,"length":null,"prompt":null,"extra_options":[],"seed":null}','queued','{"kind":"caption","task":"image-to-text","model":"wan-mini-caption","image":{"sha256":"7f5c03f04e503a696197f991e71698a3c57bfddf5cbd3a7e7d82c079d7f81f63","file":"media/inputs/7f5c03f04e503a696197f991e71698a3c57bfddf5cbd3a7e7d82c079d7f81f63.png","width":128,"height":128,"source":"wan://images/pv4kydb4v5v6dztpbmtw-0.png"},"caption_type":null,"length":null,"prompt":null,"max_new_tokens":40,"extra_options":[],"seed":null,"notes":[]}',NULL,NULL,'[]',NULL,'[]',0,NULL,0,0,1.79581701872637224202e+09,NULL,NULL,NULL);
CREATE TABLE machines (
        device TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        precision TEXT NOT NULL,
        memory INTEGER,
        has_fp8 INTEGER NOT NULL,
        told_at REAL NOT NULL
    ) STRICT;
INSERT INTO "machines" VALUES('cpu','CPU','fp32',25325268992,0,1.79581697858701801306e+09);
CREATE TABLE timings (
        device TEXT NOT NULL,
        model TEXT NOT NULL,
        stage TEXT NOT NULL,
        size REAL NOT NULL,
        seconds REAL NOT NULL,
        measured_at REAL NOT NULL
    , variant TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "timings" VALUES('cpu','','loading',1.0,5.86320608299956802511e+00,1.79581694154986476899e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','loading',1.0,1.27095617869999841784e+01,1.79581695604617929459e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','encoding',1.0,0.0651414610001666,1.795816956046305418e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','denoising',64.0,5.69640852500015171244e-02,1.79581695604636526106e+09,'fp32');
INSERT INTO "timings" VALUES('cpu','wan-mini','decoding',16384.0,2.3203613500027131522e-01,1.79581695604641938205e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','writing',16384.0,2.76292110002032131887e-02,1.79581695604646205907e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','denoising',64.0,5.23446133749985165195e-02,1.79581695604652738572e+09,'fp32');
INSERT INTO "timings" VALUES('cpu','wan-mini','decoding',16384.0,1.12083785999857354909e-01,1.79581695604657864571e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','writing',16384.0,1.00449869996737106703e-02,1.79581695604662418359e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','encoding',1.0,8.43757140000889194197e-02,1.7958169588618943691e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','denoising',128.0,4.66849817499905839213e-02,1.79581695886201953881e+09,'fp32');
INSERT INTO "timings" VALUES('cpu','wan-mini','decoding',81920.0,7.51855574000728665851e-01,1.79581695886206769941e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini','writing',81920.0,0.0752119409999068,1.79581695886210966107e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini-caption','loading',1.0,4.00882975000058650039e-01,1.79581696152456045151e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini-caption','encoding',1.0,4.29944959996646502986e-02,1.79581696152467513083e+09,'');
INSERT INTO "timings" VALUES('cpu','wan-mini-caption','denoising',40.0,1.47649644999546580947e-01,1.79581696152472043044e+09,'');
INSERT INTO "timings" VALUES('cpu','','loading',1.0,4.59676651400059199659e+00,1.79581697858730173107e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','loading',1.0,1.57400376309997227508e+01,1.79581699584863185882e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','encoding',1.0,5.70439069997519254684e-02,1.79581699584873676293e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','denoising',4.0,1.51006440333427850025e-02,1.7958169958487844467e+09,'fp8-rowwise+sdpa');
INSERT INTO "timings" VALUES('cpu','tiny-wan','decoding',1024.0,1.00497087999428913462e-01,1.79581699584882497787e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','writing',1024.0,7.84323259995289845392e-02,1.79581699584886527064e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','encoding',1.0,2.04797305000283813569e-01,1.79581699954223775869e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','denoising',4.0,1.8955118062478959473e-02,1.79581699954237556456e+09,'fp8-rowwise+sdpa');
INSERT INTO "timings" VALUES('cpu','tiny-wan','decoding',1024.0,6.68681260003722854889e-02,1.79581699954242873188e+09,'');
INSERT INTO "timings" VALUES('cpu','tiny-wan','writing',1024.0,2.12331559996528085321e-02,1.79581699954247426989e+09,'');
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX timings_by_stage ON timings (device, model, stage, measured_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',11);
INSERT INTO "sqlite_sequence" VALUES('engines',4);
COMMIT;
PRAGMA user_version = 5;
